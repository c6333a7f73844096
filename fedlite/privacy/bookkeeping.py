"""Book-keeping: clipped sums from one forward pass and one backward pass to the layers' outputs.

Bu et al. 2022 (*Differentially private optimization on large model at small cost*). Hooks keep what
each trained layer sees; one backward pass gives the gradients of the layers' outputs, and none of
weights; norms, clip factors and the clipped sum follow layer by layer
(:mod:`fedlite.privacy.layer_gradients`). What Opacus' engine alone can do is left to it: models
with a layer that has no rule, and batches with a gradient that is not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fedlite.base.compute import device_of
from fedlite.base.seeded import generator_state, set_generator_state
from fedlite.privacy.clipping import (
    ClippedSum,
    GradientError,
    HookedEngine,
    OpacusHooks,
    physical_parts,
)
from fedlite.privacy.layer_gradients import Call, ExampleGradients, added, rule_of, saved_by

_PLAIN: WeakSet[nn.Module] = WeakSet()  # models that were found to want their own memory format


@dataclass(frozen=True)
class _Seen:
    """A call of a layer in the forward pass; ``versions`` are those of its inputs then."""

    layer: nn.Module
    inputs: tuple[Tensor, ...]
    versions: tuple[int, ...]
    output: GradientEdge
    saved: tuple[Tensor, ...]


class BookKeeping(HookedEngine):
    """What :class:`fedlite.privacy.clipping.OpacusHooks` makes, but for rounding, in less time.

    Convolutions over images run in channels_last, in which torch is faster unless they have groups.
    A model that cannot bear it, or that draws (its masks would be others), runs as it is.
    """

    def _put_on(self, layers: Sequence[nn.Module]) -> None:
        self._rules = {layer: rule for layer in layers if (rule := rule_of(layer)) is not None}
        self._owners = _owners_of(layers)
        self._seen: list[_Seen] = []
        self._listening = self._channels_last = False
        self._opacus: OpacusHooks | None = None
        if len(self._rules) < len(layers):  # it does it all where a layer has no rule
            self._opacus = self._undo.enter_context(self._exact())
        else:
            self._hook()

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        """As :class:`fedlite.privacy.clipping.GradientEngine` says."""
        return self.clipped_sums(rows, [len(rows)])[0]

    def clipped_sums(self, rows: Tensor, counts: Sequence[int]) -> Sequence[ClippedSum]:
        """As :class:`fedlite.privacy.clipping.GradientEngine` says: all groups in the same passes.

        A physical part may end within a group, whose sum is then that of its pieces.
        """
        if self._opacus is not None:
            return self._opacus.clipped_sums(rows, counts)
        size = self._physical_batch_size
        owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        sums: dict[int, tuple[Tensor, ...]] = {}
        parts = zip(physical_parts(rows, size), physical_parts(owners, size), strict=True)
        for part, owned in parts:
            groups, lengths = torch.unique_consecutive(owned, return_counts=True)
            pieces = self._sums_over(part, lengths.tolist())
            for group, piece in zip(groups.tolist(), pieces, strict=True):
                before = sums.get(group)
                sums[group] = piece if before is None else tuple(map(torch.add, before, piece))
        nothing = tuple(torch.zeros_like(parameter) for parameter in self._owners)
        norm = float(self._max_grad_norm)
        return [ClippedSum(sums.get(group, nothing), norm) for group in range(len(counts))]

    def _exact(self) -> OpacusHooks:
        return OpacusHooks(
            self._model, self._example_losses, self._max_grad_norm, self._physical_batch_size
        )

    def _sums_over(self, part: Tensor, counts: list[int]) -> list[tuple[Tensor, ...]]:
        """The clipped sums over groups of examples that are in memory at once."""
        gradients = self._example_gradients(part)
        norms = torch.linalg.vector_norm(
            torch.stack([norm for one in gradients for norm in one.norms()]), dim=0
        )
        factors = clip_factors(norms, self._max_grad_norm).to(next(iter(self._owners)).dtype)
        found: dict[Tensor, Sequence[Tensor]] = {}
        for one in gradients:
            found.update(one.weighted_sums(factors, counts))
        sums = list(zip(*(found[parameter] for parameter in self._owners), strict=True))
        if not norms.isfinite().all():
            with self._exact() as exact:  # counts single numbers as zero
                groups = zip(torch.split(norms, counts), torch.split(part, counts), strict=True)
                for number, (norm, rows) in enumerate(groups):
                    if not norm.isfinite().all():
                        sums[number] = exact.clipped_sum(rows).value
        return sums

    def _example_gradients(self, part: Tensor) -> list[ExampleGradients]:
        """Of every layer; layers that share parameters count as one."""
        calls: dict[nn.Module, list[Call]] = {layer: [] for layer in self._rules}
        for seen, gradient in self._passes(part):
            calls[seen.layer].append(Call(seen.inputs, gradient, seen.saved))
        self._check_lengths(calls, len(part))
        sharing = {one for owners in self._owners.values() if len(owners) > 1 for one in owners}
        groups: dict[nn.Module | None, list[ExampleGradients]] = {}
        for layer, ones in calls.items():
            group = groups.setdefault(None if layer in sharing else layer, [])
            group += [self._rules[layer](layer, call) for call in ones]
        return [added(group) for group in groups.values()]

    def _passes(self, part: Tensor) -> list[tuple[_Seen, Tensor]]:
        """The calls of layers in a forward pass, with the gradients of their outputs."""
        if not self._channels_last:
            return self._pass(part)
        device = device_of(self._model)
        before = generator_state(device)
        try:
            found = self._pass(part)
            if torch.equal(generator_state(device), before):
                return found
        except RuntimeError:  # such as of a view that is none in this memory format
            pass
        _PLAIN.add(self._model)
        self._channels_last = False
        set_generator_state(before, device)
        return self._pass(part)

    def _pass(self, part: Tensor) -> list[tuple[_Seen, Tensor]]:
        self._listening = True
        try:
            losses, seen = self._example_losses(self._model, part), self._seen
        finally:
            self._listening, self._seen = False, []
        if not seen:
            return []
        outputs = [one.output for one in seen]
        found = torch.autograd.grad(losses.sum(), outputs, allow_unused=True)
        for one in seen:
            if tuple(each._version for each in one.inputs) != one.versions:
                owned = next(iter(one.layer.parameters(recurse=False)))
                reason = "is used on an input that is changed in place afterwards"
                raise GradientError(self._name_of(owned), reason)
        return [pair for pair in zip(seen, found, strict=True) if pair[1] is not None]

    def _check_lengths(self, calls: dict[nn.Module, list[Call]], count: int) -> None:
        """One gradient for each example and each parameter, before any of them is made."""
        for parameter, owners in self._owners.items():
            used = [call for layer in owners for call in calls[layer]]
            if not used:
                reason = "takes no part in the output, or not by a call of its layer"
                raise GradientError(self._name_of(parameter), reason)
            for call in used:
                if (rows := len(call.gradient)) != count:
                    reason = f"has gradients of {rows} rows for {count} examples"
                    raise GradientError(self._name_of(parameter), reason)

    def _name_of(self, wanted: nn.Parameter) -> str:
        return next(name for name, one in self._model.named_parameters() if one is wanted)

    def _hook(self) -> None:
        for layer in self._rules:
            self._undo.callback(layer.register_forward_hook(self._see, prepend=True).remove)
        images = [one for one in self._model.modules() if isinstance(one, nn.Conv2d)]
        for layer in images:
            self._undo.callback(layer.register_forward_pre_hook(self._lay_out).remove)
        whole = all(layer.groups == 1 for layer in images)
        self._channels_last = bool(images) and whole and self._model not in _PLAIN

    def _see(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._listening and output.requires_grad:
            parameter = next(layer.parameters(recurse=False))
            if output.dtype != parameter.dtype:
                reason = (
                    f"is used in {_type(output)} and held in {_type(parameter)}; compute in its own"
                    " type (without autocast)"
                )
                raise GradientError(self._name_of(parameter), reason)
            seen = tuple(one.detach() for one in inputs)
            versions = tuple(one._version for one in seen)
            edge = get_gradient_edge(output)
            self._seen.append(_Seen(layer, seen, versions, edge, saved_by(layer, output)))

    def _lay_out(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._listening and self._channels_last:
            return tuple(_channels_last(one) for one in inputs)
        return inputs


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _channels_last(images: Tensor) -> Tensor:
    """Images (n, C, H, W) in this memory format; those of one channel, which lie both ways, too."""
    if images.ndim != 4:
        return images
    if images.shape[1] == 1:
        return images.clone(memory_format=torch.channels_last)
    return images.contiguous(memory_format=torch.channels_last)


def clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    """What cuts gradients of ``norms`` (n,) to ``max_grad_norm``, as Opacus computes it."""
    return (max_grad_norm / (norms + 1e-6)).clamp(max=1.0)


def _owners_of(layers: Sequence[nn.Module]) -> dict[nn.Parameter, list[nn.Module]]:
    """By trained parameter, in the order of the model: the layers that hold it."""
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            if parameter.requires_grad:
                owners.setdefault(parameter, []).append(layer)
    return owners
