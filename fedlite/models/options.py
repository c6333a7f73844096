"""The options of a network: ``student``, and the part of ``teacher`` that builds it."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fedlite.base.named import Named
from fedlite.base.options import Doc, Options

BLOCKS = Named("search_student.blocks", "fedlite.models.blocks", "build")


@dataclass(frozen=True)
class ModelOptions(Options):
    """A network by class path; it is built as ``Class(input_shape, num_classes, **kwargs)``."""

    name: Annotated[str, Doc("in reports")]
    module: Annotated[str, Doc("class path of a torch.nn.Module")]
    kwargs: Annotated[dict[str, Any], Doc("its other arguments")] = field(default_factory=dict)
