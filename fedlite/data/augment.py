"""Augmentation of public training batches: random shift, left-right flip, Gaussian noise."""

import torch
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.data.options import AugmentOptions


def augment(inputs: Tensor, config: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Draw one augmented copy of every example of a batch.

    A shifted image is filled with its own edge pixels. ``inputs`` is left as it is.

    Args:
        inputs: (n, *input_shape), normalised.
        config: the largest shift in pixels (each way), flip or not, noise standard deviation.
        generator: the only source of randomness.

    Returns:
        (n, *input_shape), like ``inputs``.

    Raises:
        UsageError: a shift or flip of inputs that are no images (n, C, H, W).
    """
    if config.shift or config.flip:
        if inputs.ndim != 4:
            raise UsageError(
                f"dataset.augment: shift={config.shift} and flip={config.flip} are for images"
                f" (C, H, W), but inputs have shape {tuple(inputs.shape[1:])}; use 0 and false"
            )
        inputs = _shift_and_flip(inputs, config, generator)
    if config.noise:
        noise = torch.randn(inputs.shape, generator=generator, device=generator.device)
        inputs = inputs + config.noise * noise.to(inputs)
    return inputs


def _shift_and_flip(inputs: Tensor, config: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Gather each image at shifted, mirrored and clamped pixel positions."""
    count, channels, height, width = inputs.shape
    device = generator.device

    def positions(size: int) -> Tensor:
        offsets = torch.randint(
            -config.shift, config.shift + 1, (count, 1), generator=generator, device=device
        )
        return (torch.arange(size, device=device) + offsets).clamp(0, size - 1)

    rows, columns = positions(height), positions(width)
    if config.flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows, columns = rows.to(inputs.device), columns.to(inputs.device)
    example = torch.arange(count, device=inputs.device)[:, None, None, None]
    channel = torch.arange(channels, device=inputs.device)[None, :, None, None]
    return inputs[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
