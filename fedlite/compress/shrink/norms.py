"""Exchanging norms that cost time at run time for constants inside the convolutions before them.

DP training needs norms that look at one example at a time (GroupNorm), and those are computed anew
for every input. After training, on public data alone, each is replaced by the constant map that
comes nearest to it, which is part of the convolution; distillation then closes the rest of the gap.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fedlite.base.compute import CPU
from fedlite.base.errors import FedliteError
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.recover import recover
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public
from fedlite.models.standardised import StandardisedConvolution

Convolution = nn.Conv1d | nn.Conv2d

# Exact types: a subclass may do more than torch's own operation.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
NORMS = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, *BATCH_NORMS)

CONVOLUTION_OPERATIONS = ("aten::conv1d", "aten::conv2d")
NORM_OPERATIONS = ("aten::group_norm", "aten::instance_norm", "aten::batch_norm")

EXAMPLES = 512  # on which the constants are fitted; more gained nothing
VALUES = 2**28  # outputs of norms held at once (1 GiB); fewer examples where they would be more
RIDGE = 1e-4  # of the mean of the Gram matrix's diagonal
CHUNK = 64  # examples whose patches are in memory at once


@dataclass(frozen=True)
class FoldablePair:
    """A convolution and the norm that is its only reader, by module name.

    ``values`` is the number of values that the norm answers for one example.
    """

    convolution: str
    norm: str
    values: int


def foldable_norms(model: nn.Module, task: Task) -> list[str]:
    """Module names of the norms of ``model`` that :func:`fold_norms` removes, in running order.

    A norm counts if it has an affine part, reads a ``Conv1d`` or ``Conv2d`` directly, and nothing
    else reads that convolution; both run once. The pairs are read off the graph that
    ``torch.export`` traces, whatever the modules are called.

    Raises:
        FedliteError: the model cannot be traced.
    """
    return [pair.norm for pair in _foldable_pairs(model, task)]


def fold_norms(
    student: nn.Module,
    task: Task,
    public: PublicData,
    config: CompressOptions,
    augment: AugmentOptions,
    seed: int,
    on_step: Callable[[int], None] | None = None,
    device: torch.device = CPU,
) -> nn.Module:
    """A copy of ``student`` in eval mode that has no foldable norm at run time.

    Three steps, of which the first needs no data:

    1. Standardised weights become the constants that they are, and batch norms are folded in;
       the copy's logits stay the same.
    2. Every other norm of :func:`foldable_norms` gives way to ``Identity``. In running order, the
       weights and bias of the convolution before it are fitted, by least squares on public data,
       so that the convolution itself answers what convolution and norm answered in the student.
       Each fit sees the outputs of the fits before it and so makes up for their errors.
    3. The whole copy is recovered from the student for ``config.norm_steps`` batches
       (:func:`fedlite.compress.shrink.recover.recover`). Without step 2, nothing.

    Class and names of modules stay; what changes in the state dict is that the folded norms are
    gone and their convolutions have a bias.
    LayerNorms and norms that follow no convolution stay. Nothing to fold gives an equal copy. The
    result depends on the arguments alone.

    Args:
        student: answers logits for ``task``; stays as it is.
        task: its input shape.
        public: for the fit and the distillation.
        config: ``norm_steps``, ``recovery_learning_rate`` and ``recovery_batch_size``.
        augment: of the inputs during distillation.
        seed: of the choice of examples and of distillation.
        on_step: called with the number of finished distillation steps.
        device: where distillation computes.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
        FedliteError: the student cannot be traced.
    """
    require_public(public)
    folded = bake_weights(student)
    pairs = _fold_batch_norms(folded, _foldable_pairs(folded, task))
    if not pairs:
        return folded
    size = min(EXAMPLES, max(CHUNK, VALUES // sum(pair.values for pair in pairs)))
    order = torch.randperm(len(public), generator=torch.Generator().manual_seed(seed))[:size]
    reference = copy.deepcopy(student).eval()
    _fit_constants(folded, reference, pairs, public.inputs[order])
    recover(
        folded,
        reference,
        public,
        config,
        augment,
        {},
        seed,
        on_step,
        config.norm_steps,
        device=device,
    )
    return folded.eval()


def bake_weights(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode whose standardised convolutions are plain ones.

    It answers the same; its channels can be pruned and its weights quantized like any other's.
    """
    baked = copy.deepcopy(model).eval()
    for name, module in list(baked.named_modules()):
        if isinstance(module, StandardisedConvolution):
            baked.set_submodule(name, module.plain())
    return baked


def _foldable_pairs(model: nn.Module, task: Task) -> list[FoldablePair]:
    traced = copy.deepcopy(model).eval()
    try:
        program = torch.export.export(traced, (task.blank(2),))
    except Exception as error:  # torch.export raises whatever the model's own code raises
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(
            f"{type(model).__name__}: its norms cannot be found, because torch.export cannot trace"
            f" it ({reason}); use compress.norms=keep"
        ) from error
    parameters = program.graph_signature.inputs_to_parameters
    owners: dict[str, list[Node]] = {}
    weights: dict[Node, str] = {}
    for node in program.graph.nodes:
        for argument in node.all_input_nodes:
            owner, _, leaf = parameters.get(argument.name, "").rpartition(".")
            if leaf == "weight":
                owners.setdefault(owner, []).append(node)
                weights[node] = owner
    return list(_pairs_in(traced, weights, owners))


def _pairs_in(
    model: nn.Module, weights: dict[Node, str], owners: dict[str, list[Node]]
) -> Iterator[FoldablePair]:
    """Pairs among the operations of ``weights``, which says whose weight each operation reads.

    ``owners`` lists the operations that read one module's weight.
    """
    for node, norm in weights.items():
        first = node.args[0]
        if _operation(node) not in NORM_OPERATIONS or not isinstance(first, Node):
            continue
        convolution = weights.get(first)
        if (
            convolution is not None
            and _operation(first) in CONVOLUTION_OPERATIONS
            and list(first.users) == [node]
            and len(owners[convolution]) == len(owners[norm]) == 1
            and type(model.get_submodule(convolution)) in CONVOLUTIONS
            and type(model.get_submodule(norm)) in NORMS
        ):
            yield FoldablePair(convolution, norm, math.prod(first.meta["val"].shape[1:]))


def _operation(node: Node) -> str:
    """Such as ``aten::conv2d``, whatever the overload."""
    return node.target._schema.name if isinstance(node.target, torch._ops.OpOverload) else ""


def _fold_batch_norms(model: nn.Module, pairs: list[FoldablePair]) -> list[FoldablePair]:
    """Fold the batch norms among ``pairs`` exactly, in place; the pairs that are left."""
    left = []
    for pair in pairs:
        convolution, norm = model.get_submodule(pair.convolution), model.get_submodule(pair.norm)
        assert isinstance(convolution, CONVOLUTIONS)
        if isinstance(norm, BATCH_NORMS) and norm.track_running_stats:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            convolution.weight = weight
            convolution.bias = bias.requires_grad_(weight.requires_grad)
            model.set_submodule(pair.norm, nn.Identity())
        else:
            left.append(pair)
    return left


@torch.no_grad()
def _fit_constants(
    folded: nn.Module, reference: nn.Module, pairs: list[FoldablePair], inputs: Tensor
) -> None:
    """Take the norms of ``pairs`` out of ``folded`` and fit their convolutions, in place.

    One pass of ``reference`` over ``inputs`` (n, *input_shape) gives what each norm answers; one
    pass of ``folded`` meets each convolution after those before it were fitted.
    """
    targets: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, seen: tuple[Tensor, ...], answer: Tensor) -> None:
            targets[name] = answer

        return hook

    def fit(name: str) -> Callable[[Convolution, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: Convolution, seen: tuple[Tensor, ...], answer: Tensor) -> Tensor:
            fit_convolution(module, seen[0], targets.pop(name))
            return module.forward(seen[0])

        return hook

    hooks = [
        reference.get_submodule(pair.norm).register_forward_hook(remember(pair.norm))
        for pair in pairs
    ]
    reference(inputs)
    for pair in pairs:
        folded.set_submodule(pair.norm, nn.Identity())
        convolution = folded.get_submodule(pair.convolution)
        hooks.append(convolution.register_forward_hook(fit(pair.norm)))
    folded(inputs)
    for handle in hooks:
        handle.remove()


@torch.no_grad()
def fit_convolution(convolution: Convolution, inputs: Tensor, targets: Tensor) -> None:
    """Fit weights and bias, in place, so that ``convolution(inputs)`` comes nearest ``targets``.

    First the best scale and shift per output channel, then ridge regression on the residual, so
    that directions in which the inputs do not vary keep their (scaled) weights.

    Args:
        convolution: gets a bias if it has none.
        inputs: (n, in_channels, ...).
        targets: (n, out_channels, ...), of the convolution's own output shape.
    """
    outputs = convolution.forward(inputs)  # without the hook that calls this
    positions = [0, *range(2, outputs.ndim)]
    mean, target_mean = outputs.mean(positions), targets.mean(positions)
    centred = outputs - outputs.mean(positions, keepdim=True)
    variance = centred.square().mean(positions)
    scale = (centred * targets).mean(positions) / variance.clamp(min=1e-12)
    old_bias = torch.zeros_like(scale) if convolution.bias is None else convolution.bias
    weight = convolution.weight.flatten(1) * scale[:, None]
    bias = (old_bias - mean) * scale + target_mean
    solution = torch.cat([weight, bias[:, None]], dim=1)
    gram, right = _normal_equations(convolution, inputs, targets)
    gram, right = gram.double(), right.double()
    start = solution.double().reshape(convolution.groups, -1, gram.shape[-1]).transpose(1, 2)
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    change = torch.linalg.solve(gram + ridge * eye, right - gram @ start)
    solution += change.transpose(1, 2).reshape(solution.shape).to(solution)
    convolution.weight.copy_(solution[:, :-1].reshape(convolution.weight.shape))
    convolution.bias = nn.Parameter(solution[:, -1].clone())


def _normal_equations(
    convolution: Convolution, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over positions of patch times patch and patch times target, per group of channels.

    A patch is what one position of the outputs sees, and a 1 for the bias. Shapes (groups, p, p)
    and (groups, p, out_channels / groups).
    """
    groups = convolution.groups
    size = convolution.weight[0].numel() + 1
    gram = torch.zeros(groups, size, size)
    right = torch.zeros(groups, size, convolution.out_channels // groups)
    for part, target in zip(torch.split(inputs, CHUNK), torch.split(targets, CHUNK), strict=True):
        seen = _by_group(_patches(convolution, part), groups)
        seen = torch.cat([seen, torch.ones(groups, 1, seen.shape[2])], dim=1)
        gram += seen @ seen.transpose(1, 2)
        right += seen @ _by_group(target.flatten(2), groups).transpose(1, 2)
    return gram, right


def _by_group(values: Tensor, groups: int) -> Tensor:
    """(n, groups * channels, positions) to (groups, channels, n * positions)."""
    n, channels, positions = values.shape
    parts = values.reshape(n, groups, channels // groups, positions)
    return parts.permute(1, 2, 0, 3).flatten(2)


def _patches(convolution: Convolution, inputs: Tensor) -> Tensor:
    """What each position sees: (n, in_channels, ...) to (n, in_channels * kernel, positions)."""
    mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
    padded = F.pad(inputs, convolution._reversed_padding_repeated_twice, mode=mode)
    sizes = [convolution.kernel_size, convolution.dilation, convolution.stride]
    if inputs.ndim == 3:  # a series is an image of one row
        padded = padded[:, :, None]
        sizes = [(1, *size) for size in sizes]
    kernel_size, dilation, stride = sizes
    return F.unfold(padded, kernel_size, dilation=dilation, stride=stride)
