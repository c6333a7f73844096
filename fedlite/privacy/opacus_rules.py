"""Gradients of single examples for layers on which Opacus' own rules fail."""

import torch.nn.functional as F
from opacus.grad_sample import register_grad_sampler
from opacus.grad_sample.layer_norm import compute_layer_norm_grad_sample
from opacus.utils.tensor_utils import sum_over_all_but_batch_and_last_n
from torch import Tensor, nn


@register_grad_sampler(nn.LayerNorm)  # type: ignore[untyped-decorator]
def layer_norm_gradients(
    layer: nn.LayerNorm, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    """Opacus' gradients of a LayerNorm, also of one without bias."""
    if layer.bias is not None:
        found: dict[Tensor, Tensor] = compute_layer_norm_grad_sample(layer, activations, backprops)
        return found
    normed = F.layer_norm(activations[0], layer.normalized_shape, eps=layer.eps)
    return {layer.weight: sum_over_all_but_batch_and_last_n(normed * backprops, layer.weight.dim())}
