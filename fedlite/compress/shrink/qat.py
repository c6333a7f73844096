"""Quantization-aware training: a student learns, on public data, weights that int8 hurts less."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.compress.onnx.files import quiet
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.recover import recover
from fedlite.compress.shrink.sparsify import prunable_weights
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public


def train_quantization_aware(
    student: nn.Module,
    reference: nn.Module,
    task: Task,
    public: PublicData,
    config: CompressOptions,
    augment: AugmentOptions,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """A copy of ``student`` whose weights were trained with int8 simulated (Jacob et al. 2018).

    Inputs and weights of convolutions and linear layers, and embedding tables, are rounded to
    int8 in the forward pass, as static quantization will round them (``config.symmetric``,
    ``config.per_channel``), and gradients pass the rounding unchanged: torchao's PT2E flow. Weights
    that are zero stay zero.

    What comes back is a plain float model of the student's class and shapes. PT2E could convert the
    trained graph itself, and that exports to a valid ONNX file, but it would serve one runtime only
    and keep in float whatever is not marked here (the last layer, sums, pools). With the weights
    alone, every format calibrates its own ranges and uses its own integer operators.

    Args:
        student: stays as it is.
        reference: gives the logits to be kept; mostly the student itself.
        task: gives the shape of inputs.
        public: anything else than public data is refused.
        config: also ``qat_steps`` (batches), ``qat_learning_rate`` and ``recovery_batch_size``.
        augment: of the public inputs.
        seed: of batches and augmentation.
        on_step: called with the number of finished steps.

    Returns:
        A copy in eval mode.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
        FedliteError: the student's computation cannot be captured as a graph.
    """
    require_public(public)
    trained = copy.deepcopy(student).eval()
    try:
        with quiet():
            # Imported here: loading torchao takes seconds and talks.
            from fedlite.compress.shrink.quant_simulation import simulate_int8

            exported = torch.export.export(
                trained,
                (task.blank(2),),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            simulated = simulate_int8(exported.module(), config)
    except Exception as error:  # export and preparation raise many types
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(
            f"{type(student).__name__} cannot be trained with quantization simulated ({reason});"
            " use compress.quantization=static"
        ) from error
    masks = {name: weight != 0 for name, weight in prunable_weights(student).items()}
    recover(
        simulated,
        reference,
        public,
        config,
        augment,
        {name: kept for name, kept in masks.items() if not kept.all()},
        seed,
        on_step,
        config.qat_steps,
        config.qat_learning_rate,
    )
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            parameter.copy_(simulated.get_parameter(name))
    return trained
