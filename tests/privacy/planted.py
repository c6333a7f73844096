"""Planted bugs: the check that passes on the real code must fail on each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

import pytest
import torch
from torch import Tensor, nn

from fedlite.privacy import bookkeeping
from fedlite.privacy.clipping import ClippedSum, Clipper, ExampleLosses, OpacusHooks

Plant = Callable[[pytest.MonkeyPatch], None]  # puts one bug into the real code


@contextmanager
def caught(because: str) -> Iterator[None]:
    """The check inside fails, and with these words: not because the bug crashed."""
    with pytest.raises(AssertionError, match=because):
        yield


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    """Of whatever engine."""

    def sum_as_it_is(self: Clipper) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.grad_sample.sum(dim=0)

    patch.setattr(Clipper, "clip_and_accumulate", sum_as_it_is)
    patch.setattr(bookkeeping, "clip_factors", lambda norms, bound: torch.ones_like(norms))


class PlantedEngine:
    """Opacus' engine, whose sums a bug then changes; ``wider`` times what it is told to cut to."""

    wider = 1.0

    def __init__(
        self,
        model: nn.Module,
        losses: ExampleLosses,
        max_grad_norm: float,
        physical_batch_size: int | None = None,
    ) -> None:
        norm = self.wider * max_grad_norm
        self.inner = OpacusHooks(model, losses, norm, physical_batch_size)

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.inner.__exit__(kind, error, trace)

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        return self.inner.clipped_sum(rows)

    def clipped_sums(self, rows: Tensor, counts: Sequence[int]) -> list[ClippedSum]:
        return [self.clipped_sum(group) for group in torch.split(rows, list(counts))]


class UnderstatesItsSensitivity(PlantedEngine):
    """Says a quarter of its clip norm: the noise, which is measured in it, is too small."""

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        found = super().clipped_sum(rows)
        return replace(found, sensitivity=found.sensitivity / 4)


class ClipsWider(PlantedEngine):
    """Cuts to four times the norm, and says the norm it was given."""

    wider = 4.0

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        found = super().clipped_sum(rows)
        return replace(found, sensitivity=found.sensitivity / 4)


class SaysTheMeanIsTheSum(PlantedEngine):
    """Divides by how many rows there are, and the noise by as much: both follow the data."""

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        found, count = super().clipped_sum(rows), max(1, len(rows))
        return ClippedSum(tuple(one / count for one in found.value), found.sensitivity / count)
