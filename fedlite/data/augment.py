"""Augmentation of training examples: random shift, left-right flip, Gaussian noise."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

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
        _check_images(inputs, config)
        offsets = [
            torch.randint(
                -config.shift,
                config.shift + 1,
                (len(inputs), 1),
                generator=generator,
                device=generator.device,
            )
            for _ in range(2)
        ]
        mirrored = None
        if config.flip:
            shape = (len(inputs), 1)
            mirrored = torch.rand(shape, generator=generator, device=generator.device) < 0.5
        inputs = _moved(inputs, offsets[0], offsets[1], mirrored)
    if config.noise:
        noise = torch.randn(inputs.shape, generator=generator, device=generator.device)
        inputs = inputs + config.noise * noise.to(inputs)
    return inputs


@dataclass(frozen=True)
class Copies:
    """``count`` augmented copies of every example, for training that looks at examples one by one.

    What is drawn for an example follows from ``seed`` and its number alone, so that no other
    example touches it. Without a seed it is that of torch's own generator, which is read and not
    moved: a training step seeds it from its randomness.
    """

    options: AugmentOptions
    count: int
    seed: int | None = None

    def of(self, inputs: Tensor, numbers: Tensor) -> Iterator[Tensor]:
        """One copy (n, ...) after the other of ``inputs`` (n, ...), the examples ``numbers`` (n,).

        Raises:
            UsageError: a shift or flip of inputs that are no images, or inputs that are tokens.
        """
        if self.options.changes and not inputs.is_floating_point():
            raise UsageError("dataset.augment: is for inputs that are numbers, not for texts")
        seed = torch.initial_seed() if self.seed is None else self.seed
        for copy in range(self.count):
            yield self._copy(inputs, numbers.to(inputs.device)[:, None], f"{seed}:{copy}")

    def _copy(self, inputs: Tensor, numbers: Tensor, key: str) -> Tensor:
        options = self.options
        if options.shift or options.flip:
            _check_images(inputs, options)
            sizes = 2 * options.shift + 1
            rows, columns = (
                (_uniform(numbers, f"{key}:{name}") * sizes).long() - options.shift
                for name in ("rows", "columns")
            )
            mirrored = _uniform(numbers, f"{key}:mirrored") < 0.5 if options.flip else None
            inputs = _moved(inputs, rows, columns, mirrored)
        if options.noise:
            width = math.prod(inputs.shape[1:])
            places = numbers * width + torch.arange(width, device=inputs.device)
            size = torch.sqrt(-2 * torch.log1p(-_uniform(places, f"{key}:size")))
            normal = size * torch.cos(2 * math.pi * _uniform(places, f"{key}:angle"))
            inputs = inputs + options.noise * normal.reshape(inputs.shape).to(inputs)
        return inputs


def _uniform(numbers: Tensor, key: str) -> Tensor:
    """Float64 values in [0, 1), each of its own int64 number and ``key`` alone, on any device.

    SplitMix64 (Steele, Lea and Flood 2014, *Fast splittable pseudorandom number generators*).
    """
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
    mixed = numbers * -0x61C8864680B583EB + start
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return _shifted(mixed ^ _shifted(mixed, 31), 11).double() / 2**53


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _check_images(inputs: Tensor, config: AugmentOptions) -> None:
    if inputs.ndim != 4:
        raise UsageError(
            f"dataset.augment: shift={config.shift} and flip={config.flip} are for images"
            f" (C, H, W), but inputs have shape {tuple(inputs.shape[1:])}; use 0 and false"
        )


def _moved(
    inputs: Tensor, row_offsets: Tensor, column_offsets: Tensor, mirrored: Tensor | None
) -> Tensor:
    """Each image gathered at shifted, mirrored and clamped pixel positions.

    Args:
        inputs: (n, C, H, W).
        row_offsets, column_offsets, mirrored: (n, 1) each; None mirrors nothing.
    """
    count, channels, height, width = inputs.shape

    def positions(size: int, offsets: Tensor) -> Tensor:
        return (torch.arange(size, device=offsets.device) + offsets).clamp(0, size - 1)

    rows, columns = positions(height, row_offsets), positions(width, column_offsets)
    if mirrored is not None:
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows, columns = rows.to(inputs.device), columns.to(inputs.device)
    example = torch.arange(count, device=inputs.device)[:, None, None, None]
    channel = torch.arange(channels, device=inputs.device)[None, :, None, None]
    return inputs[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
