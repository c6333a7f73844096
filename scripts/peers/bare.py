"""The floor: one loop in PyTorch, without messages, ledgers or checks.

    python bare.py

With privacy it is a bare loop with Opacus: a model that is wrapped once, its optimizer, its noise.
"""

import copy

import torch
from torch import Tensor, nn
from work import Clock, Work, flat


def main() -> None:
    """Run all rounds."""
    work, clock = Work.given(), Clock()
    inputs, labels = work.examples()
    model = work.model()
    first = flat(model)
    step = (
        private_step(model, work) if work.noise_multiplier is not None else plain_step(model, work)
    )
    state = copy.deepcopy(model.state_dict())
    clock.mark()
    for _ in range(work.rounds):
        total = {name: torch.zeros_like(value) for name, value in state.items()}
        for own_inputs, own_labels in zip(inputs, labels, strict=True):
            model.load_state_dict(state)
            rows = torch.rand(len(own_labels)) < work.batch_size / len(own_labels)
            step(own_inputs[rows], own_labels[rows])
            for name, value in model.state_dict().items():
                total[name] += value
        state = {name: value / work.clients for name, value in total.items()}
        clock.mark()
    model.load_state_dict(state)
    clock.tell(flat(model) - first)


def plain_step(model: nn.Module, work: Work):
    """One step of SGD, its sum divided by the nominal batch size."""
    optimizer = torch.optim.SGD(model.parameters(), lr=work.learning_rate)

    def step(inputs: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        if len(labels):
            loss = nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
            (loss / work.batch_size).backward()
        optimizer.step()

    return step


def private_step(model: nn.Module, work: Work):
    """One step of DP-SGD by Opacus, with secure noise as fedlite's is."""
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(model)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=work.learning_rate),
        noise_multiplier=work.noise_multiplier,
        max_grad_norm=work.max_grad_norm,
        expected_batch_size=work.batch_size,
        loss_reduction="mean",
    )

    def step(inputs: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(wrapped(inputs), labels).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
