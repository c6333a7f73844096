"""The options of a network: ``student``, and the part of ``teacher`` that builds it."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Gt

from fedlite.base.errors import UsageError
from fedlite.base.named import Named
from fedlite.base.options import LATER, Doc, Options

BLOCKS = Named("search_student.blocks", "fedlite.models.blocks", "build")

Scale = Literal["dataset", "unit", "signed", "raw", "imagenet", "custom"]
SCALES: dict[Scale, str] = {
    "dataset": "as the data set is standardised",
    "unit": "between 0 and 1",
    "signed": "between -1 and 1",
    "raw": "as they are stored",
    "imagenet": "by ImageNet's mean and std",
    "custom": "by teacher.mean and teacher.std",
}


@dataclass(frozen=True)
class ModelOptions(Options):
    """A network by class path; it is built as ``Class(input_shape, num_classes, **kwargs)``."""

    name: Annotated[str, Doc("in reports")]
    module: Annotated[str, Doc("class path of a torch.nn.Module")]
    kwargs: Annotated[dict[str, Any], Doc("its other arguments")] = field(default_factory=dict)


@dataclass(frozen=True)
class ScaledModelOptions(ModelOptions):
    """A network that may know its inputs in another scale than the data set's
    (:mod:`fedlite.models.scaling`)."""

    normalise: Annotated[Scale, LATER, Doc("scale of its inputs: unit 0 to 1, signed -1 to 1")] = (
        "dataset"
    )
    mean: Annotated[
        list[float] | None, LATER, Doc("with normalise=custom: of one channel or each, raw / scale")
    ] = None
    std: Annotated[
        list[Annotated[float, Gt(0)]] | None, LATER, Doc("with normalise=custom, likewise")
    ] = None

    @property
    def scaling(self) -> dict[str, Any]:
        """What was said of the scale of its inputs; nothing where it is the data set's."""
        said = {"normalise": self.normalise, "mean": self.mean, "std": self.std}
        return {key: value for key, value in said.items() if value not in ("dataset", None)}


def check_scaling(options: ScaledModelOptions) -> None:
    """Refuse ``mean`` and ``std`` where nothing asks for them, and their absence where it does.

    Raises:
        UsageError: names the option and what would be right.
    """
    given = {name: getattr(options, name) for name in ("mean", "std")}
    for name, value in given.items():
        if options.normalise != "custom" and value is not None:
            raise UsageError(f"teacher.{name}={value}: is for teacher.normalise=custom alone")
        if options.normalise == "custom" and not value:
            raise UsageError(
                f"teacher.normalise=custom: needs teacher.{name}, one number or one for each"
                " channel, such as teacher.mean=[0.5] teacher.std=[0.25]"
            )
