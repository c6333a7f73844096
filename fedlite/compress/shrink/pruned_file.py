"""A pruned model on disk: widths and weights, never a pickle."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.tensors import save_tensors
from fedlite.compress.shrink.ties import tie, ties_of
from fedlite.data.types import Task
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.models.standardised import StandardisedConvolution

# The numbers that say how wide a layer is, in torch's own names.
WIDTHS = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_channels",
    "num_groups",
    "num_features",
    "normalized_shape",
    "num_embeddings",
    "embedding_dim",
    "num_parameters",
    "input_size",
    "hidden_size",
    "embed_dim",
    "kdim",
    "vdim",
    "num_heads",
    "head_dim",
)
LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Embedding,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.modules.batchnorm._NormBase,
)

Widths = dict[str, dict[str, Any]]


def widths_of(model: nn.Module) -> Widths:
    """The widths of every torch layer in ``model`` that has some, by module name."""
    return {
        name: {key: getattr(module, key) for key in WIDTHS if hasattr(module, key)}
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    }


def identities_of(model: nn.Module) -> list[str]:
    """The names of all modules that do nothing, such as norms that were folded away."""
    return [name for name, module in model.named_modules() if type(module) is nn.Identity]


def reshape(
    model: nn.Module,
    widths: Widths,
    identities: Collection[str],
    state: dict[str, torch.Tensor],
) -> None:
    """Cut ``model`` to ``widths`` and put the tensors of ``state`` in, whatever their shapes.

    What folding norms changed is changed here too: modules named in ``identities`` are taken out,
    a layer without a bias gets one where ``state`` holds it, and a standardised convolution is
    made plain where ``state`` does not hold its gain. Weights that ``model`` ties stay tied where
    ``state`` holds equal ones. Works for every model whose forward reads
    its sizes from its layers, not from constants.

    Raises:
        KeyError, AttributeError: names that ``model`` does not have.
    """
    for name in identities:
        model.set_submodule(name, nn.Identity(), strict=True)
    for name, module in list(model.named_modules()):
        if isinstance(module, StandardisedConvolution) and f"{name}.gain" not in state:
            model.set_submodule(name, module.plain(), strict=True)
    for name, values in widths.items():
        module = model.get_submodule(name)
        for key, value in values.items():
            setattr(module, key, value)
    for name in state:
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        if leaf == "bias" and owner._parameters.get("bias", leaf) is None:
            owner.bias = nn.Parameter(torch.empty(0))
    ties = ties_of(model)
    missing = set(model.state_dict()) ^ set(state)
    if missing:
        raise KeyError(f"{sorted(missing)[0]} is in only one of model and file")
    for name, tensor in state.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        if leaf in owner._parameters:
            setattr(owner, leaf, nn.Parameter(tensor.clone()))
        else:
            setattr(owner, leaf, tensor.clone())
    tie(model, ties)


def save_pruned(model: nn.Module, path: Path) -> None:
    """Write ``widths``, ``identities`` and ``state_dict`` atomically, for ``weights_only=True``."""
    save_tensors(
        path,
        {
            "widths": widths_of(model),
            "identities": identities_of(model),
            "state_dict": model.state_dict(),
        },
    )


def load_pruned(path: Path, config: ModelOptions, task: Task) -> nn.Module:
    """Rebuild the class of ``config``, cut it to the widths in ``path``, and load its weights.

    Returns:
        The model in eval mode.

    Raises:
        UsageError: no such file, or it holds a pruned model of another class.
        FedliteError: the file is damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected a pruned model")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        widths, identities, state = (stored[key] for key in ("widths", "identities", "state_dict"))
    except Exception as error:  # torch.load raises many kinds on damaged files
        raise FedliteError(f"{path}: not a pruned model file, or damaged") from error
    model = build_model(config, task, seed=0).eval()
    try:
        reshape(model, widths, identities, state)
        with torch.no_grad():
            model(task.blank(1))
    except (AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise UsageError(f"{path}: does not fit model {config.name}: {reason}") from error
    return model
