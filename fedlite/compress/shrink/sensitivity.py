"""How much the distillation loss on public data leans on the weights of a student."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.data.types import PublicData
from fedlite.distill.public import require_public, shuffled_batches

BATCHES, BATCH_SIZE = 64, 16

Gradients = dict[str, Tensor]
"""The gradient of one loss, by parameter name, in the parameters' shapes."""


def public_gradients(
    model: nn.Module, reference: nn.Module, public: PublicData, seed: int
) -> Iterator[Gradients]:
    """Gradients of the distillation loss on small public batches, one after another.

    The loss is the cross-entropy to classes drawn from the reference's softmax. Over the draws its
    mean gradient is that of KL(reference || model). That one is zero everywhere while the model
    still equals its reference, and would call every weight useless; the second moment is not: it
    is the Fisher information, which is the curvature of this KL there (Theis et al. 2018, *Faster
    gaze prediction with dense networks and Fisher pruning*).

    Args:
        model: its gradients are asked for; it stays as it is.
        reference: the unpruned student or the teacher; put into eval mode.
        public: anything else is refused.
        seed: of the batches and of the classes drawn.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    require_public(public)
    return _gradients(copy.deepcopy(model).eval(), reference.eval(), public, seed)


def gradient_sizes(
    model: nn.Module, reference: nn.Module, public: PublicData, seed: int
) -> Gradients:
    """Root mean square of :func:`public_gradients` over the batches; all values are >= 0.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    squares = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for gradients in public_gradients(model, reference, public, seed):
        for name, gradient in gradients.items():
            squares[name] += gradient**2
    return {name: (total / BATCHES).sqrt() for name, total in squares.items()}


def _gradients(
    model: nn.Module, reference: nn.Module, public: PublicData, seed: int
) -> Iterator[Gradients]:
    names, parameters = zip(
        *model.requires_grad_(requires_grad=True).named_parameters(), strict=True
    )
    generator = torch.Generator().manual_seed(seed)
    batches = shuffled_batches(len(public), BATCH_SIZE, generator)
    for _ in range(BATCHES):
        inputs = public.inputs[next(batches)]
        with torch.no_grad():
            chances = torch.softmax(reference(inputs), dim=1)
        drawn = torch.multinomial(chances, 1, generator=generator).squeeze(1)
        found = torch.autograd.grad(
            F.cross_entropy(model(inputs), drawn), parameters, materialize_grads=True
        )
        yield dict(zip(names, found, strict=True))
