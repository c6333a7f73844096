"""What DP-SGD cannot serve, by layer, and what to use instead: the words of every refusal."""

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

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


_WHERE_IT_SAYS = {  # of Opacus or torch, when a layer fails
    "No activations detected": (
        "let train() put it into training mode, or freeze its parameters with requires_grad_(False)"
    ),
    "vmap": (
        "keep its own parameters in a module of their own that takes and answers one tensor, with"
        " neither dropout nor an autograd.Function in it"
    ),
}


def instead_of(layer: nn.Module, said: str = "") -> str:
    """What to use in place of ``layer``; of a kind that has no substitute, how layers are used.

    ``said`` is the text of the error that it raised.
    """
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
    for words, instead in _WHERE_IT_SAYS.items():
        if words in said:
            return instead
    if getattr(layer, "inplace", False):
        return "use it with inplace=False"
    return (
        "call every layer as a module, on one tensor given by position, with the examples of the"
        " batch in dimension 0, and change nothing in place"
    )


def described(name: str, layer: nn.Module) -> str:
    """A layer for a person: its path in the model ("" for the model itself) and class."""
    return f"layer '{name}' ({type(layer).__name__})" if name else type(layer).__name__
