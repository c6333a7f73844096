"""Short training on labels: a network that knows its task, for tests that need one."""

from torch import nn

from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions
from fedlite.distill.public import distil_on_public, teacher_answers


def train_on_labels(
    model: nn.Module, public: PublicData, steps: int, learning_rate: float = 5e-3
) -> nn.Module:
    """Train ``model`` in place with batches of 64 and seed 0; it comes back in eval mode."""
    loss = build_loss(DistillOptions(alpha=1.0))
    distil_on_public(
        model,
        teacher_answers(model, loss),
        public,
        steps=steps,
        batch_size=64,
        learning_rate=learning_rate,
        weight_decay=0.0,
        loss=loss,
        augment=AugmentOptions(),
        seed=0,
    )
    return model.eval()
