"""Clients with made-up examples and the plan of one private step, for what times cohorts."""

import torch
from bench_gradients import CLASSES, Images
from torch import nn

from fedlite.base.compute import device_of
from fedlite.data.types import ClientData
from fedlite.distill.answers import Answers
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation.workbench import TrainedPart, trained_part
from fedlite.privacy.plan import PrivacyPlan

RATE = 0.5  # of sampling


def made_up_clients(student: nn.Module, task: Images, held: int, count: int) -> list[TrainedPart]:
    """``count`` clients of ``held`` random examples each, where the student is."""
    device, draws = device_of(student), torch.Generator().manual_seed(0)

    def client(number: int) -> TrainedPart:
        inputs = torch.rand(held, *task.input_shape, generator=draws).to(device)
        taught = Answers(torch.randn(held, CLASSES, generator=draws).to(device))
        data = ClientData(number, inputs, (torch.arange(held) % CLASSES).to(device))
        return trained_part(student, build_loss(DistillOptions()), data, taught)

    return [client(number) for number in range(count)]


def plan_of_one_step(held: int) -> PrivacyPlan:
    """One step of noise multiplier 1 on clients of ``held`` examples."""
    return PrivacyPlan(
        epsilon=8.0,
        delta=1e-5,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sample_rate=RATE,
        expected_examples=held,
        steps=1,
        max_participations=1,
        accountant="rdp",
        randomness="secure",
    )
