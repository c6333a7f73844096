"""What DP-SGD cannot serve, by layer, and what to use instead: the words of every refusal."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from fedlite.base.errors import FedliteError, UsageError
from fedlite.privacy.clipping import GradientError

MIXING = (
    nn.modules.batchnorm._BatchNorm,
    nn.SyncBatchNorm,
    torch.ao.quantization.FakeQuantizeBase,
)
"""Layers that look across a batch, or keep statistics of it, in any of their settings."""

_INSTEAD: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    (MIXING, "use nn.GroupNorm"),
    (nn.modules.instancenorm._InstanceNorm, "use nn.GroupNorm(channels, channels)"),
    (nn.GRU, "use opacus.layers.DPGRU with batch_first=True"),
    (nn.LSTM, "use opacus.layers.DPLSTM with batch_first=True"),
    (nn.RNN, "use opacus.layers.DPRNN with batch_first=True"),
    (nn.RNNCellBase, "use opacus.layers.DPGRU, DPLSTM or DPRNN with batch_first=True"),
    (nn.MultiheadAttention, "use opacus.layers.DPMultiheadAttention with batch_first=True"),
    (
        (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer),
        "build the block of opacus.layers.DPMultiheadAttention, nn.LayerNorm and nn.Linear",
    ),
    (nn.EmbeddingBag, "use nn.Embedding, and take the mean or sum of its output"),
    (nn.Bilinear, "use nn.Linear on the two inputs joined along their last dimension"),
)


def instead_of(layer: nn.Module) -> str:
    """What to use in place of ``layer``; of a kind that has no substitute, how layers are used."""
    if is_parametrized(layer) or isinstance(layer, nn.utils.parametrize.ParametrizationList):
        return "use the layer without parametrizations such as weight_norm or spectral_norm"
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return (
            "pad with a layer of its own (nn.ReflectionPad2d, nn.CircularPad2d, ...) before a"
            " convolution with padding_mode='zeros'"
        )
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        return "use nn.Embedding without padding_idx, and mask its output"
    if isinstance(layer, nn.Embedding) and (layer.max_norm or layer.scale_grad_by_freq):
        return "use nn.Embedding without max_norm and scale_grad_by_freq"
    for kinds, words in _INSTEAD:
        if isinstance(layer, kinds):
            return words
    return (
        "call every layer as a module (not by its weight in torch.nn.functional), on one tensor"
        " whose dimension 0 holds the examples of the batch; give a parameter of your own to a"
        " module that takes and answers such a tensor"
    )


def described(model: nn.Module, name: str) -> str:
    """The layer called ``name`` in ``model``, for a person: its path and class."""
    layer = model.get_submodule(name)
    return f"layer '{name}' ({type(layer).__name__})" if name else type(layer).__name__


@contextmanager
def explained(model: nn.Module, who: str = "student") -> Iterator[None]:
    """Whatever a network of unforeseen shape raises, as one line with the layer and a way out.

    Raises:
        UsageError: the work inside failed.
    """
    try:
        yield
    except GradientError as error:
        name = error.parameter.rpartition(".")[0]
        raise UsageError(
            f"{who}: {described(model, name)}: parameter '{error.parameter}' {error.reason};"
            f" {instead_of(model.get_submodule(name))}"
        ) from error
    except FedliteError:
        raise
    except Exception as error:  # of foreign code: any kind
        name = raised_in(model, error)
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(
            f"{who}: {described(model, name)} fails in a trial on made-up examples: {reason};"
            f" {instead_of(model.get_submodule(name))}"
        ) from error


def raised_in(model: nn.Module, error: BaseException) -> str:
    """The path of the innermost layer of ``model`` that was running when ``error`` was raised.

    Read off the traceback: a forward has the layer as ``self``, Opacus' hooks as ``module`` or
    ``layer``. The model itself ("") where no layer was running.
    """
    names = {module: name for name, module in model.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for variable in ("self", "module", "layer"):
            running = frame.f_locals.get(variable)
            if isinstance(running, nn.Module):
                found = names.get(running, found)
    return found
