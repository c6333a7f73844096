"""A pruned model on disk: widths and weights, never a pickle."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlite.config import ModelConfig
from fedlite.errors import FedliteError, UsageError
from fedlite.files import save_tensors
from fedlite.models.build import build_model

# The integers that say how wide a layer is, in torch's own names.
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
)

Widths = dict[str, dict[str, Any]]


def widths_of(model: nn.Module) -> Widths:
    """The widths of every torch layer in ``model`` that has some, by module name."""
    found = {
        name: {key: getattr(module, key) for key in WIDTHS if hasattr(module, key)}
        for name, module in model.named_modules()
        if type(module).__module__.startswith("torch.nn.")
    }
    return {name: widths for name, widths in found.items() if widths}


def reshape(model: nn.Module, widths: Widths, state: dict[str, torch.Tensor]) -> None:
    """Cut ``model`` to ``widths`` and put the tensors of ``state`` in, whatever their shapes.

    Works for every model whose forward reads its sizes from its layers, not from constants.

    Raises:
        KeyError, AttributeError: names that ``model`` does not have.
    """
    for name, values in widths.items():
        module = model.get_submodule(name)
        for key, value in values.items():
            setattr(module, key, value)
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


def save_pruned(model: nn.Module, path: Path) -> None:
    """Write ``{"widths": ..., "state_dict": ...}`` atomically; ``weights_only=True`` reads it."""
    save_tensors(path, {"widths": widths_of(model), "state_dict": model.state_dict()})


def load_pruned(
    path: Path, config: ModelConfig, input_shape: tuple[int, ...], num_classes: int
) -> nn.Module:
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
        widths, state = stored["widths"], stored["state_dict"]
    except Exception as error:  # torch.load raises many kinds on damaged files
        raise FedliteError(f"{path}: not a pruned model file, or damaged") from error
    model = build_model(config, input_shape, num_classes, seed=0).eval()
    try:
        reshape(model, widths, state)
        with torch.no_grad():
            model(torch.zeros(1, *input_shape))
    except (AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise UsageError(f"{path}: does not fit model {config.name}: {reason}") from error
    return model
