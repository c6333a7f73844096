"""A teacher of another scale: its inputs are put back into the one that it was trained on.

fedlite standardises inputs by the public part of the data set. A teacher from elsewhere may have
been trained on pixels between 0 and 1, or on ImageNet's mean and deviation; the same picture then
means something else to it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.models.options import ScaledModelOptions

FACTOR, SHIFT = "input_factor", "input_shift"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Standardisation(Protocol):
    """How a data set is standardised: ``(raw / scale - mean) / std``."""

    @property
    def scale(self) -> float: ...

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...


class InOtherScale(nn.Module):
    """Put before a network's class among the bases of a new one, it turns the inputs over.

    The factor and the shift are buffers, so that they belong to the state that is hashed and sent;
    the network's own names stay as they are.
    """

    input_factor: Tensor
    input_shift: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled by the class before which it stands: its own was made up."""
        return _unbuilt, (type(self).__bases__[1],), self.__dict__

    def forward(self, inputs: Tensor) -> Tensor:
        """Answers to ``inputs * input_factor + input_shift``."""
        answer: Tensor = super().forward(inputs * self.input_factor + self.input_shift)
        return answer


def _unbuilt(cls: type[nn.Module]) -> nn.Module:
    made = in_other_scale(cls)
    return made.__new__(made)


def in_other_scale(cls: type[nn.Module]) -> type[nn.Module]:
    """``cls`` with :class:`InOtherScale` before it; it wants the two buffers once it is built."""
    return type(cls.__name__, (InOtherScale, cls), {"__module__": cls.__module__})


def factor_and_shift(
    options: ScaledModelOptions, data: Standardisation, input_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """What makes inputs of the data set's scale those of the network's: ``x * factor + shift``.

    Both have one value per leading dimension of ``input_shape``, in a shape that broadcasts.

    Raises:
        UsageError: a mean and a std of another number of channels.
    """
    mean, std = _mean_and_std(options, data)
    channels = input_shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise UsageError(
                f"teacher.normalise={options.normalise}: its {name} has {len(values)} values, and"
                f" inputs {tuple(input_shape)} have {channels} channels; use"
                " teacher.normalise=custom with teacher.mean and teacher.std"
            )
    own_mean, own_std, wanted_mean, wanted_std = (
        torch.tensor(values, dtype=torch.float64) for values in (data.mean, data.std, mean, std)
    )
    shape = (-1, *[1] * (len(input_shape) - 1))
    factor = (own_std / wanted_std).expand(channels).reshape(shape)
    shift = ((own_mean - wanted_mean) / wanted_std).expand(channels).reshape(shape)
    return factor.float(), shift.float()


def _mean_and_std(
    options: ScaledModelOptions, data: Standardisation
) -> tuple[Sequence[float], Sequence[float]]:
    """Of ``raw / scale``, as the network was trained."""
    match options.normalise:
        case "unit":
            return (0.0,), (1.0,)
        case "signed":
            return (0.5,), (0.5,)
        case "raw":
            return (0.0,), (1 / data.scale,)
        case "imagenet":
            return IMAGENET_MEAN, IMAGENET_STD
        case "custom":
            assert options.mean
            assert options.std
            return options.mean, options.std
        case _:
            return data.mean, data.std
