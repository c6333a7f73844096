"""The Gaussian mechanism on a clipped sum."""

from torch import Tensor

from fedlite.privacy.clipping import ClippedSum
from fedlite.privacy.randomness import Randomness


def add_noise(
    total: ClippedSum, noise_multiplier: float, randomness: Randomness
) -> tuple[Tensor, ...]:
    """``total`` with Gaussian noise on every coordinate, in the types of its tensors.

    The standard deviation is ``noise_multiplier`` times the sum's sensitivity, so that the result
    is one Gaussian mechanism with that noise multiplier. Sum and noise are added in float64 and
    rounded afterwards: noise rounded first lies on a grid that a contribution leaves. They meet on
    the processor, where the noise is drawn, and the result is where the sum was.
    """
    scale = noise_multiplier * total.sensitivity
    noises = randomness.normals([tuple(value.shape) for value in total.value])
    return tuple(
        noise.mul_(scale).add_(value.cpu()).to(value)
        for value, noise in zip(total.value, noises, strict=True)
    )
