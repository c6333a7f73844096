"""The one-hot layer: a student made for canaries, sent through the run's own code.

Every canary owns one weight and pushes it, and nothing else, by the clip norm whenever it is
sampled: the strongest thing that one example (or one client) can do, for as many canaries at once
as there are weights. What is left of its push in the released weights is its score.
"""

import torch
from torch import Tensor, nn

from fedlite.audit.audited import AuditedRun
from fedlite.audit.scratch import AS_THEY_ARE, Networks
from fedlite.audit.targets import OVERSHOOT, Target, make_target
from fedlite.data.types import Task
from fedlite.distill.loss import LogitLoss, Loss
from fedlite.distill.options import LossOptions
from fedlite.models.options import ModelOptions, ScaledModelOptions

CLASSES = 2  # the second one's weights hold nothing but noise
IDLE = 64  # outputs of the small layer that no canary pushes


class OneHotLayer(nn.Module):
    """Logits (n, 2) of inputs (n, m), linear in the weights; all of these start at zero.

    Beside a weight for each input and logit there is a small layer, whose bias shows what becomes
    of arrays of one dimension. It takes part in rows of several numbers: one-hot rows leave it
    alone, exactly.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], num_classes, bias=False)
        self.idle = nn.Linear(1, IDLE)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of a batch."""
        pushed, left = self.layer(inputs).unbind(1)
        several = inputs.sum(dim=1).square() - inputs.square().sum(dim=1)
        idle = self.idle(inputs[:, :1]).sum(dim=1) * several / inputs.shape[1]
        return torch.stack([pushed + idle, left], dim=1)


def steady_loss(options: LossOptions) -> Loss:
    """Minus the first logit: its gradient is the input, whatever the weights are."""
    return LogitLoss(lambda student, labels, teacher: -student[:, 0])


def one_hot_target(audited: AuditedRun, canaries: int) -> Target:
    """As many canaries, each with a weight of its own; they push by ten times the run's clip."""
    plan = audited.plans.example
    task = Task("one-hot", (canaries,), ("pushed", "left"), AS_THEY_ARE, "accuracy", "a canary")
    named = "one-hot", f"{__name__}.{OneHotLayer.__name__}"
    state = OneHotLayer((canaries,), CLASSES).state_dict()
    loss = LossOptions(f"{__name__}.{steady_loss.__name__}")
    teacher, student = ScaledModelOptions(*named), ModelOptions(*named)
    networks = Networks(task, teacher, student, loss, state, state)
    inputs: Tensor = OVERSHOOT * (plan.max_grad_norm if plan else 1.0) * torch.eye(canaries)
    labels = torch.zeros(canaries, dtype=torch.long)
    words = "a one-hot layer with a weight for each canary, in the place of the run's student"
    return make_target("layer", words, networks, inputs, labels, still=True)
