"""Building a network from its class path, and loading arrays into it with clear errors."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.base.foreign import FAILURES, refusal
from fedlite.base.named import import_path
from fedlite.base.seeded import seeded
from fedlite.models.options import ModelOptions, ScaledModelOptions
from fedlite.models.scaling import (
    FACTOR,
    SHIFT,
    Standardisation,
    factor_and_shift,
    in_other_scale,
)
from fedlite.models.standardised import register_with_opacus
from fedlite.models.trial import answer_problem, call_problem, text_problem

register_with_opacus()  # every student that is trained is built here


def import_class(path: str) -> type[nn.Module]:
    """The ``nn.Module`` class at ``path`` (``package.module.Class``).

    Modules in the working directory are found too, after installed ones.

    Raises:
        UsageError: no such module or class, or not a subclass of ``nn.Module``.
    """
    found = import_path(path, "module")
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    kind = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
    raise UsageError(
        f"module={path}: {kind}, not a subclass of torch.nn.Module; give a class that inherits from"
        " nn.Module and builds the network in its __init__"
    )


class TaskShape(Protocol):
    """What a network is built for: the shape of its inputs, an input to try, and the classes."""

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens; None of what is no text."""

    @property
    def standardisation(self) -> Standardisation | None:
        """Of inputs that are numbers; None of texts."""

    def blank(self, count: int) -> Tensor:
        """``count`` equal inputs of no content."""


def build_model(config: ModelOptions, task: TaskShape, seed: int) -> nn.Module:
    """Build ``config.module`` as ``Class(input_shape, num_classes, **kwargs)``, in train mode.

    A network for texts takes ``vocabulary`` too, the number of tokens. A teacher that knows its
    inputs in another scale gets them so (:mod:`fedlite.models.scaling`).

    The initial weights depend on ``seed`` alone; the global generator is left as it was. Blank
    examples of the task, two and one alone, check that the answer is (n, ``num_classes``).

    Raises:
        UsageError: the class cannot be imported, refuses its arguments, or answers in another
            shape; says what to change.
    """
    cls = import_class(config.module)
    input_shape, num_classes = tuple(task.input_shape), task.num_classes
    where = f"{config.name} ({config.module})"
    arguments = {"input_shape": input_shape, "num_classes": num_classes, **config.kwargs}
    if problem := text_problem(cls, task.vocabulary):
        raise UsageError(f"{where}: {problem}")
    if task.vocabulary is not None:
        arguments.setdefault("vocabulary", task.vocabulary)
    if problem := call_problem(cls, arguments):
        raise UsageError(f"{where}: {problem}")
    scaled = isinstance(config, ScaledModelOptions) and config.normalise != "dataset"
    if scaled and task.standardisation is None:
        raise UsageError(
            "teacher.normalise: inputs of this data set are texts, which have no scale"
        )
    with seeded(seed):
        try:
            model = (in_other_scale(cls) if scaled else cls)(**arguments)
        except FAILURES as error:
            said = f"{where}: cannot be built for inputs {input_shape} with kwargs"
            raise refusal(f"{said} {dict(config.kwargs)}", error) from error
        if scaled:
            assert isinstance(config, ScaledModelOptions)
            assert task.standardisation is not None
            factor, shift = factor_and_shift(config, task.standardisation, input_shape)
            model.register_buffer(FACTOR, factor)
            model.register_buffer(SHIFT, shift)
        model.eval()
        for count in (2, 1):
            try:
                with torch.no_grad():
                    answer = model(task.blank(count))
            except FAILURES as error:
                raise refusal(f"{where}: fails on inputs {(count, *input_shape)}", error) from error
            if problem := answer_problem(answer, count, num_classes):
                raise UsageError(f"{where}: {problem}")
    return model.train()


def count_parameters(model: nn.Module) -> int:
    """Number of scalars in all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


@runtime_checkable
class FixedFrontEnd(Protocol):
    """A student that answers ``head(features(inputs))``, where training moves the head alone.

    Fixed data then has fixed features, which a client computes once for all rounds. The class
    says so itself with ``fixed_front_end = True``: names alone would match networks that train
    their features.
    """

    fixed_front_end: bool
    head: nn.Module

    def features(self, inputs: Tensor) -> Tensor:
        """What the head sees of ``inputs`` (n, ...), each row on its own."""


def frozen_names(model: nn.Module) -> frozenset[str]:
    """Names in the state dict that training does not change: buffers and frozen parameters.

    A parameter under several names (tied weights) is trained under each of them.
    """
    parameters = model.named_parameters(remove_duplicate=False)
    trained = {name for name, value in parameters if value.requires_grad}
    return frozenset(model.state_dict()) - trained


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy ``state`` into ``model``; keys and shapes must match exactly.

    ``where`` names the origin of ``state`` in the error.

    Raises:
        UsageError: names the first key that is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    for key, tensor in own.items():
        if key not in state:
            raise UsageError(f"{where}: {key} is missing; expected shape {tuple(tensor.shape)}")
        if state[key].shape != tensor.shape:
            raise UsageError(
                f"{where}: {key} has shape {tuple(state[key].shape)};"
                f" the model has {tuple(tensor.shape)}"
            )
    for key in state:
        if key not in own:
            raise UsageError(
                f"{where}: {key} of shape {tuple(state[key].shape)} is not in the model"
            )
    model.load_state_dict(dict(state))
