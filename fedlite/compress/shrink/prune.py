"""Structured pruning: whole channels, attention heads and hidden units of a student are cut out."""

import copy
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.shrink.coupling import GatesAsHalves, Mixing, blocks_of, tied_channels
from fedlite.compress.shrink.sensitivity import Gradients
from fedlite.compress.shrink.sparsify import CONVOLUTIONS
from fedlite.compress.shrink.ties import Ties, tie, ties_of
from fedlite.data.types import Task
from fedlite.models.blocks.channel_shuffle import ChannelShuffle
from fedlite.models.standardised import StandardisedConvolution
from fedlite.models.transformer import MultiHeadAttention

# What torch-pruning, or a network of unforeseen shape, raises.
FAILS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError)
MOST_NAMED = 4  # layers that a hint leaves whole one by one


@dataclass(frozen=True)
class Width:
    """How many channels one set of coupled layers has and keeps.

    ``step`` is what widths are multiples of: the number of channels that must go together (a head;
    one channel of each part that a norm, a grouped convolution, a gate or a maximum asks for), and
    with others than heads ``round_to``.
    """

    full: int
    kept: int
    step: int

    def after(self, share: float) -> int:
        """The width when ``share`` (in [0, 1]) of the cut is made, never below ``kept``."""
        left = (self.full - self.kept) * (1 - share)
        return min(self.full, self.kept + math.ceil(left / self.step - 1e-9) * self.step)


@dataclass(frozen=True)
class Criterion:
    """Which channels are the weakest of their layer, by the torch-pruning library.

    ``l2``, ``l1``: the magnitudes of a channel's weights in all layers that it runs through (Fang
    et al. 2023, *DepGraph: towards any structural pruning*). ``taylor``: the mean square, over
    ``gradients``, of the change of the loss without the channel, to first order (Molchanov et al.
    2019, *Importance estimation for neural network pruning*). ``random``: the control.
    """

    name: str = "l2"
    gradients: Iterable[Gradients] = ()  # of one batch each, read once; for taylor
    seed: int = 0  # for random

    def scores(self, model: nn.Module, groups: Sequence[Any]) -> list[Tensor]:
        """One score a channel for each group of torch-pruning; the lowest are the weakest."""
        if self.name == "taylor":
            return self._taylor(model, groups)
        if self.name == "random":
            generator = torch.Generator().manual_seed(self.seed)
            return [torch.rand(len(group[0].idxs), generator=generator) for group in groups]
        assert self.name in ("l1", "l2"), self.name
        magnitude = torch_pruning.importance.GroupMagnitudeImportance(
            p=int(self.name[1]), normalizer=None
        )
        return [magnitude(group) for group in groups]

    def _taylor(self, model: nn.Module, groups: Sequence[Any]) -> list[Tensor]:
        taylor = torch_pruning.importance.GroupTaylorImportance(multivariable=True, normalizer=None)
        totals = [torch.zeros(len(group[0].idxs)) for group in groups]
        for gradients in self.gradients:
            for name, parameter in model.named_parameters():
                parameter.grad = gradients[name]
            for total, group in zip(totals, groups, strict=True):
                total += taylor(group) ** 2
        model.zero_grad(set_to_none=True)
        return totals


def plan_widths(
    model: nn.Module,
    task: Task,
    ratio: float,
    round_to: int,
    layer_ratios: Mapping[str, float],
) -> dict[str, Width]:
    """The widths that pruning leaves, by the name of the first layer of each set of coupled ones.

    Each width becomes the multiple of ``round_to`` nearest to ``(1 - ratio) * width``, at least
    one such multiple and at most the width; an attention keeps the number of whole heads nearest to
    ``(1 - ratio) * heads``, at least one. The layer that gives the classes and layers whose
    outputs are mixed so that the graph of dependencies loses track, as a channel shuffle does, are
    left alone; so are those whose tied weights would be cut differently under their names.

    Args:
        model: answers logits (n, classes) for inputs (n, *input_shape).
        task: what the model sees.
        ratio: in [0, 1), of every layer that ``layer_ratios`` does not name.
        round_to: 1 or more.
        layer_ratios: by the name of a layer or of a module that holds layers, as in
            ``named_modules``; the longest name that fits wins. Coupled layers are cut under the
            name of the first of them.

    Returns:
        Nothing where every ratio is 0.

    Raises:
        UsageError: a name in ``layer_ratios`` is unknown, or of layers that cannot be cut under it.
        FedliteError: no channel could be removed, or the layers cannot be traced.
    """
    if ratio == 0 and not layer_ratios:
        return {}
    probe = copy.deepcopy(model).requires_grad_(requires_grad=True)
    with _one_line(model):
        graph, sets = _coupled_layers(probe, task)
        mixing = Mixing(probe, task.random(2, torch.Generator().manual_seed(0)))
        sets = [_checked(graph, one, mixing) for one in sets]
        sets = [_with_ties(probe, task, one, ties_of(probe)) for one in sets]
    _check_names(probe, sets, layer_ratios)
    plan = {}
    for coupled in sets:
        asked = _ratio_of(coupled.names[0], ratio, layer_ratios)
        if not coupled.fixed and asked > 0:
            step = coupled.block_size if coupled.heads else math.lcm(coupled.block_size, round_to)
            kept = max(step, round(coupled.width * (1 - asked) / step) * step)
            plan[coupled.names[0]] = Width(coupled.width, min(coupled.width, kept), step)
    asked = max([ratio, *layer_ratios.values()])
    if asked > 0 and all(width.kept == width.full for width in plan.values()):
        which = f"ratio={ratio:g}" if ratio > 0 else "layer_ratios"
        said = f"pruning {type(model).__name__}: compress.{which}"
        if not plan:
            why = "; ".join(f"'{one.names[0]}': {one.fixed}" for one in sets[:MOST_NAMED])
            raise FedliteError(f"{said}: no layer can be cut ({why}); use compress.ratio=0")
        raise FedliteError(
            f"{said} with compress.round_to={round_to} removes no channel; use a larger ratio, a"
            " smaller round_to, or compress.ratio=0"
        )
    return plan


def cut_channels(
    model: nn.Module,
    task: Task,
    widths: Mapping[str, int],
    criterion: Criterion,
) -> nn.Module:
    """A copy of ``model`` in which the weakest channels of each named layer are gone.

    Args:
        model: stays as it is.
        task: what the model sees.
        widths: channels to keep, by layer name as in :func:`plan_widths`; layers that are not
            named, or are no wider, stay.
        criterion: which channels are the weakest; judged before any is cut.

    Raises:
        FedliteError: the layers cannot be cut.
    """
    with _one_line(model):
        try:
            return _cut(model, task, widths, criterion)
        except FAILS as error:
            alone = {
                name: kept for name, kept in widths.items() if not _bears(model, task, name, kept)
            }
            if not 0 < len(alone) < min(len(widths), MOST_NAMED):
                raise
            ratios = ", ".join(f"{name}: 0" for name in alone)
            raise FedliteError(
                f"pruning {type(model).__name__}: its forward counts on the width of"
                f" '{next(iter(alone))}' ({_reason(error)}); leave it whole with"
                f" '+compress.layer_ratios={{{ratios}}}', or use compress.ratio=0"
            ) from error


class _ComeApartError(FedliteError):
    """A cut that tied weights do not survive as one."""


def _bears(model: nn.Module, task: Task, name: str, kept: int) -> bool:
    """Whether ``model`` still runs when the layers of one name alone are cut."""
    try:
        _cut(model, task, {name: kept}, Criterion())
    except FAILS:
        return False
    return True


def _cut(
    model: nn.Module, task: Task, widths: Mapping[str, int], criterion: Criterion
) -> nn.Module:
    pruned = copy.deepcopy(model).eval()
    ties = ties_of(pruned)
    trainable = {name: value.requires_grad for name, value in pruned.named_parameters()}
    pruned.requires_grad_(requires_grad=True)  # the dependency graph is read off autograd's
    example = task.blank(2)
    with torch.no_grad():
        classes = pruned(example).shape[1]
    graph, sets = _coupled_layers(pruned, task)
    sets = [item for item in sets if widths.get(item.names[0], item.width) < item.width]
    scores = criterion.scores(pruned, [item.group for item in sets])
    for item, score in zip(sets, scores, strict=True):
        root, kept = item.group[0].dep, widths[item.names[0]]
        channels = _weakest(score, item, kept)
        group = graph.get_pruning_group(root.target.module, root.handler, channels)
        _cut_gains(graph, group)
        group.prune()
        _check_width(root.target.module, item.names[0], kept)
    if apart := tie(pruned, ties):
        raise _ComeApartError(
            f"pruning {type(model).__name__}: {_apart_words(apart)}; use compress.ratio=0"
        )
    with torch.no_grad():
        answered = pruned(example).shape[1]
    if answered != classes:
        raise FedliteError(
            f"pruning {type(model).__name__}: it would lose classes; use compress.ratio=0"
        )
    for name, value in pruned.named_parameters():
        value.requires_grad_(trainable[name])
    return pruned.train(model.training)


@dataclass(frozen=True)
class _CoupledLayers:
    """Layers whose channels are cut together: ``names`` of convolutions and linear layers.

    ``blocks``: the channels that go together, in parts of equal size. ``heads``: whether these are
    attention heads. ``fixed``: why these channels cannot be cut; empty where they can.
    """

    names: tuple[str, ...]
    group: Any
    width: int
    blocks: list[list[int]]
    heads: bool
    fixed: str

    @property
    def block_size(self) -> int:
        """How many channels go together."""
        return len(self.blocks[0])


@contextmanager
def _one_line(model: nn.Module) -> Iterator[None]:
    """Whatever torch-pruning or a network of unforeseen shape raises, as one clear line."""
    try:
        yield
    except FAILS as error:
        whole = [
            f"layer '{name}' ({type(module).__name__}) is one of them; "
            for name, module in model.named_modules()
            if isinstance(module, nn.RNNBase | nn.MultiheadAttention)
            or type(module).__module__.startswith("opacus.layers")
        ]
        hint = whole[0] if whole else ""
        raise FedliteError(
            f"pruning {type(model).__name__}: its layers cannot be cut ({_reason(error)});"
            f" {hint}use compress.ratio=0"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _coupled_layers(model: nn.Module, task: Task) -> tuple[Any, list[_CoupledLayers]]:
    """The dependency graph of torch-pruning, and every set of layers that are cut together.

    Groups are planned and cut one by one in this file because torch-pruning's own ``round_to``
    rounds grouped channels down far below the ratio asked for, and its cuts take tied channels
    beside those that are named.
    """
    with GatesAsHalves():
        graph = torch_pruning.DependencyGraph().build_dependency(model, task.blank(2))
    names = {module: name for name, module in model.named_modules()}
    order = {name: index for index, name in enumerate(names.values())}
    attentions = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    head_widths: dict[nn.Module, int] = {
        attention.query: attention.head_width for attention in attentions
    }
    shuffled = _shuffled_layers(model)
    found = []
    for group in graph.get_all_groups([], (*CONVOLUTIONS, nn.Linear)):
        targets = [d.target for d, _ in group if graph.is_out_channel_pruning_fn(d.handler)]
        layers = [t.module for t in targets if isinstance(t.module, (*CONVOLUTIONS, nn.Linear))]
        head_width = max((head_widths.get(layer, 0) for layer in layers), default=0)
        blocks, fixed = [[0]], ""
        if any(not target.outputs for target in targets):
            fixed = "it gives the classes"
        elif shuffled.intersection(layers):
            fixed = "its channels are shuffled with those of other layers"
        else:
            blocks = _blocks(graph, group, head_width)
            if len({len(block) for block in blocks}) > 1:
                fixed = "its channels are tied to each other in sets of unequal size"
        found.append(
            _CoupledLayers(
                names=tuple(sorted((names[layer] for layer in layers), key=order.__getitem__)),
                group=group,
                width=len(group[0].idxs),
                blocks=blocks,
                heads=head_width > 0,
                fixed=fixed,
            )
        )
    return graph, sorted(found, key=lambda coupled: order[coupled.names[0]])


def _blocks(graph: Any, group: Any, head_width: int) -> list[list[int]]:
    """The channels of a group in sets that must go together: heads, or what gates, maxima, norms
    and grouped convolutions tie."""
    root, width = group[0].dep, len(group[0].idxs)
    if head_width:
        return [list(range(start, start + head_width)) for start in range(0, width, head_width)]

    def cut_with(channels: list[int]) -> list[int]:
        taken = graph.get_pruning_group(root.target.module, root.handler, channels)
        outward = [one for one in taken if _answers(graph, one.dep, root.target.module)]
        return sorted({channel for one in outward for channel in one.idxs})

    parts = _equal_parts(graph, group)
    within = [range(place, width, width // parts) for place in range(width // parts)]
    return blocks_of(width, [*within, *tied_channels(width, cut_with)])


def _answers(graph: Any, dependency: Any, layer: nn.Module) -> bool:
    """Whether a dependency is about what ``layer`` answers."""
    outward: bool = graph.is_out_channel_pruning_fn(dependency.handler)
    return outward and dependency.target.module is layer


def _checked(graph: Any, coupled: _CoupledLayers, mixing: Mixing) -> _CoupledLayers:
    """Fixed, if other inputs see a block of its channels than the graph would cut with it."""
    if coupled.fixed or coupled.heads:
        return coupled
    root, block = coupled.group[0].dep, coupled.blocks[len(coupled.blocks) // 2]
    expected: dict[nn.Module, set[int]] = {}
    for dependency, channels in graph.get_pruning_group(root.target.module, root.handler, block):
        reader = dependency.target.module
        inward = graph.is_in_channel_pruning_fn(dependency.handler)
        if inward and isinstance(reader, (*CONVOLUTIONS, nn.Linear)):
            expected.setdefault(reader, set()).update(channels)
    if not mixing.reaches_others(root.target.module, block, expected):
        return coupled
    return replace(coupled, fixed="its channels are mixed in a way that cannot be followed")


def _with_ties(model: nn.Module, task: Task, coupled: _CoupledLayers, ties: Ties) -> _CoupledLayers:
    """Fixed, if tied weights would come apart when its channels are cut."""
    owners = {
        model.get_submodule(name.rpartition(".")[0]): names for names in ties for name in names
    }
    touched = [owners[d.target.module] for d, _ in coupled.group if d.target.module in owners]
    if coupled.fixed or not touched:
        return coupled
    try:
        _cut(model, task, {coupled.names[0]: coupled.width - coupled.block_size}, Criterion())
    except _ComeApartError:
        return replace(coupled, fixed=_apart_words(touched[0]))
    except FAILS:  # which the cut itself will tell
        pass
    return coupled


def _apart_words(names: Sequence[str]) -> str:
    return f"tied weights ({', '.join(names)}) would come apart"


def _shuffled_layers(model: nn.Module) -> set[nn.Module]:
    """The layers whose outputs a channel shuffle interleaves; torch-pruning loses track there."""
    found: set[nn.Module] = set()
    for block in model.modules():
        if isinstance(block, ChannelShuffle):
            for branch in (block.shortcut, block.body):
                layers = [module for module in branch.modules() if isinstance(module, CONVOLUTIONS)]
                found.update(layers[-1:])
    return found


def _equal_parts(graph: Any, group: Any) -> int:
    """Into how many parts of equal size norms and grouped convolutions split these channels."""
    found = [1]
    for dependency, _ in group:
        module = dependency.target.module
        depthwise = isinstance(module, CONVOLUTIONS) and module.groups == module.out_channels
        if isinstance(module, (*CONVOLUTIONS, nn.GroupNorm)) and not depthwise:
            pruner = graph.get_pruner_of_module(module)
            outward = graph.is_out_channel_pruning_fn(dependency.handler)
            count = pruner.get_out_channel_groups if outward else pruner.get_in_channel_groups
            found.append(count(module))
    return math.lcm(*found)


def _weakest(scores: Tensor, coupled: _CoupledLayers, kept: int) -> list[int]:
    """The channels to cut: the weakest blocks, by the mean of their channels' scores."""
    blocks = torch.tensor(coupled.blocks)
    weakest = scores[blocks].mean(dim=1).argsort(stable=True)
    channels: list[int] = (
        blocks[weakest[: (coupled.width - kept) // blocks.shape[1]]].flatten().tolist()
    )
    return channels


def _check_width(layer: nn.Module, name: str, kept: int) -> None:
    """Refuse a cut that took more than was planned.

    Raises:
        ValueError: names the layer.
    """
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if width != kept:
        raise ValueError(f"'{name}' would keep {width} channels where {kept} were planned")


def _cut_gains(graph: Any, group: Any) -> None:
    """Cut what torch-pruning does not know: the gains of standardised convolutions."""
    for dependency, channels in group:
        module = dependency.target.module
        outward = graph.is_out_channel_pruning_fn(dependency.handler)
        if outward and isinstance(module, StandardisedConvolution):
            kept = sorted(set(range(module.out_channels)) - set(channels))
            module.gain = nn.Parameter(module.gain.detach()[kept])


def _holds(holder: str, name: str) -> bool:
    return name == holder or name.startswith(f"{holder}.")


def _ratio_of(name: str, ratio: float, layer_ratios: Mapping[str, float]) -> float:
    """The ratio under the longest key that is ``name`` or holds it; else ``ratio``."""
    fitting = [key for key in layer_ratios if _holds(key, name)]
    return layer_ratios[max(fitting, key=len)] if fitting else ratio


def _check_names(
    model: nn.Module, sets: list[_CoupledLayers], layer_ratios: Mapping[str, float]
) -> None:
    """Refuse keys of ``layer_ratios`` under which no layer is cut."""
    first = [coupled.names[0] for coupled in sets if not coupled.fixed]
    for key in layer_ratios:
        where = f"compress.layer_ratios.{key}"
        if any(_holds(key, name) for name in first):
            continue
        known = [name for name, _ in model.named_modules() if name]
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3) or first
            raise UsageError(f"{where}: no such layer; near: {', '.join(near)}")
        for coupled in sets:
            if any(_holds(key, name) for name in coupled.names):
                if coupled.fixed:
                    raise UsageError(f"{where}: cannot be pruned, {coupled.fixed}")
                raise UsageError(
                    f"{where}: its channels are cut together with those of {coupled.names[0]};"
                    " name that layer"
                )
        raise UsageError(f"{where}: it holds no layer with channels; those: {', '.join(first)}")
