"""Which channels of a layer must be cut together, and whether a graph of dependencies is right.

A gate, a maximum of two halves, the groups of a norm and heads tie channels of one layer to each
other: who cuts one has cut the others, and more than was planned if they were not counted.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedlite.compress.shrink.sparsify import CONVOLUTIONS

PERTURBATIONS = (10.0, -10.0)  # of a channel: activations are of the order of one
NORMS = (
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.modules.batchnorm._NormBase,
)


class GatesAsHalves(TorchFunctionMode):
    """Within, a gated linear unit is computed as the two halves that it is: a graph of dependencies
    knows halves and no such unit."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_gated if func is F.glu else func)(*args, **(kwargs or {}))


def _gated(input: Tensor, dim: int = -1) -> Tensor:
    half, gate = input.chunk(2, dim)
    return half * gate.sigmoid()


def tied_channels(
    width: int, cut_with: Callable[[list[int]], list[int]]
) -> Iterator[Sequence[int]]:
    """Sets of channels, among ``width``, that go when one of them goes; nothing where each goes
    alone.

    Args:
        width: number of channels.
        cut_with: channels -> those that a cut of them takes, sorted.
    """
    for some in (list(range(width // 2)), list(range(0, width, 2))):
        if cut_with(some) != some:
            yield from (cut_with([channel]) for channel in range(width))
            return


def blocks_of(width: int, ties: Iterable[Sequence[int]]) -> list[list[int]]:
    """The channels 0 to ``width - 1`` in sets that ``ties`` hold together, by their first channel.

    >>> blocks_of(6, [(0, 3), (3, 5)])
    [[0, 3, 5], [1], [2], [4]]
    """
    first = list(range(width))  # of the set that a channel is in

    def find(channel: int) -> int:
        while first[channel] != channel:
            channel = first[channel]
        return channel

    for tie in ties:
        roots = {find(channel) for channel in tie}
        for root in roots:
            first[root] = min(roots)
    blocks: dict[int, list[int]] = {}
    for channel in range(width):
        blocks.setdefault(find(channel), []).append(channel)
    return list(blocks.values())


class Mixing:
    """Tries whether channels of a layer reach no other inputs than a graph says.

    Between layers with weights, each of which answers as it did at first: so a change goes through
    what has none (activations, pools, reshapes, sums, gates) and no further. Norms, which look at
    all channels by design, let it pass.

    Args:
        model: in eval mode; left as it is.
        example: inputs (n, *input_shape).
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model, self._example = model, example
        self._answers: dict[nn.Module, list[Any]] = {}
        self._inputs = self._run(lambda layer, answer: self._keep(layer, answer))

    def reaches_others(
        self,
        layer: nn.Module,
        channels: Sequence[int],
        expected: Mapping[nn.Module, Collection[int]],
    ) -> bool:
        """Whether a change of ``channels`` that ``layer`` answers is seen by channels of the inputs
        of the layers in ``expected`` beside those listed there."""

        for size in PERTURBATIONS:
            calls = dict.fromkeys(self._answers, 0)

            def replay(
                running: nn.Module,
                answer: Any,
                size: float = size,
                calls: dict[nn.Module, int] = calls,
            ) -> Any:
                known = self._answers[running][calls[running]]
                calls[running] += 1
                return _changed(known, running, channels, size) if running is layer else known

            found = self._run(replay)
            for reader, wanted in expected.items():
                pairs = zip(self._inputs.get(reader, ()), found.get(reader, ()), strict=True)
                for before, after in pairs:
                    moved = _moved_channels(before, after, reader)
                    if not moved.issubset(wanted):
                        return True
        return False

    def _keep(self, layer: nn.Module, answer: Any) -> Any:
        self._answers.setdefault(layer, []).append(answer)
        return answer

    def _run(self, answering: Callable[[nn.Module, Any], Any]) -> dict[nn.Module, list[Tensor]]:
        """One pass, in which layers with weights answer what ``answering`` says; their inputs."""
        seen: dict[nn.Module, list[Tensor]] = {}

        def on_layer(layer: nn.Module, inputs: tuple[Any, ...], answer: Any) -> Any:
            seen.setdefault(layer, []).append(inputs[0])
            return answering(layer, answer)

        def on_norm(layer: nn.Module, inputs: tuple[Any, ...], answer: Any) -> Any:
            return inputs[0]

        with _hooked(self._model, on_layer, on_norm), torch.no_grad():
            self._model(self._example)
        return seen


@contextmanager
def _hooked(model: nn.Module, on_layer: Any, on_norm: Any) -> Iterator[None]:
    hooks = []
    for module in model.modules():
        owns = next(module.parameters(recurse=False), None) is not None
        if isinstance(module, NORMS):
            hooks.append(module.register_forward_hook(on_norm))
        elif owns and next(module.children(), None) is None:
            hooks.append(module.register_forward_hook(on_layer))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _channel_dim(layer: nn.Module) -> int:
    return 1 if isinstance(layer, CONVOLUTIONS) else -1


def _changed(answer: Tensor, layer: nn.Module, channels: Sequence[int], size: float) -> Tensor:
    moved = answer.clone()
    moved.movedim(_channel_dim(layer), 0)[list(channels)] += size
    return moved


def _moved_channels(before: Tensor, after: Tensor, reader: nn.Module) -> set[int]:
    moved = ~torch.isclose(before, after, rtol=1e-4, equal_nan=True)
    return set(
        moved.movedim(_channel_dim(reader), 0).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    )
