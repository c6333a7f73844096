"""What quantization-aware training rounds, for torchao's PT2E flow."""

import torch
from torch import fx, nn
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    allow_exported_model_train_eval,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from fedlite.compress.options import CompressOptions

ATEN = torch.ops.aten
LAYERS = {ATEN.conv1d.default, ATEN.conv2d.default, ATEN.linear.default}
PADDED = {ATEN.conv1d.padding, ATEN.conv2d.padding}


def simulate_int8(exported: fx.GraphModule, config: CompressOptions) -> nn.Module:
    """``exported`` (of ``torch.export``) with the rounding of :class:`IntegerLayers` simulated.

    Its parameters keep their names, and it can be put into train and eval mode.
    """
    simulated: nn.Module = prepare_qat_pt2e(exported, IntegerLayers(config))
    allow_exported_model_train_eval(simulated)
    return simulated


class IntegerLayers(Quantizer):  # type: ignore[misc]  # untyped library class
    """Tells torchao what static quantization rounds: layers' inputs and weights, and tables.

    torchao's own quantizers are each for one backend; this one rounds as
    :mod:`fedlite.compress.onnx.quant_static` does: uint8 inputs with one range per tensor,
    symmetric int8 weights.
    """

    def __init__(self, config: CompressOptions) -> None:
        """Args: config: its ``symmetric`` and ``per_channel`` are followed."""
        super().__init__()
        affine, symmetric = torch.per_tensor_affine, torch.per_tensor_symmetric
        self._inputs = QuantizationSpec(
            dtype=torch.uint8,
            quant_min=0,
            quant_max=255,
            qscheme=symmetric if config.symmetric else affine,
            observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
                observer=MovingAverageMinMaxObserver
            ),
        )
        per_channel = config.per_channel
        self._weights = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,
            quant_max=127,
            qscheme=torch.per_channel_symmetric if per_channel else symmetric,
            ch_axis=0 if per_channel else None,
            observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
                observer=(
                    MovingAveragePerChannelMinMaxObserver
                    if per_channel
                    else MovingAverageMinMaxObserver
                ),
                averaging_constant=1.0,  # the range follows the weights at once
            ),
        )

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark the edges of ``model`` on which values are rounded."""
        for node in model.graph.nodes:
            if node.target in LAYERS | PADDED:
                rounded = {node.args[0]: self._inputs, node.args[1]: self._weights}
            elif node.target == ATEN.embedding.default:
                rounded = {node.args[0]: self._weights}
            else:
                continue
            node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                input_qspec_map=rounded, _annotated=True
            )
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to refuse: a graph without such layers is trained as it is."""
