"""The local steps of one round: Poisson sampling, per-example clipping, noise, update.

Opacus does the mathematics (hooks for per-example gradients, ``DPOptimizer`` for clipping and
noise). Two overrides carry what it cannot: randomness that is not a ``torch.Generator``, and
per-example gradients that are not finite.
"""

import math
import warnings
from collections.abc import Callable, Iterator

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor, nn

from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

PHYSICAL_BATCH_SIZE = 256  # examples in memory at once; does not change the result's meaning


class PoissonSampler(UniformWithReplacementSampler):  # type: ignore[misc]
    """Opacus' Poisson sampler drawing from a :class:`Randomness` (rules 5 and 11)."""

    def __init__(
        self, *, num_samples: int, sample_rate: float, steps: int, randomness: Randomness
    ) -> None:
        super().__init__(num_samples=num_samples, sample_rate=sample_rate, steps=steps)
        self.randomness = randomness

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps):
            chosen = self.randomness.uniform(self.num_samples) < self.sample_rate
            yield chosen.nonzero().reshape(-1).tolist()


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' DP optimizer with noise from a :class:`Randomness` and non-finite gradients zeroed.

    The sum of clipped gradients has sensitivity ``max_grad_norm``; its noise has standard
    deviation ``noise_multiplier * max_grad_norm``; the sum is divided by the public constant
    ``expected_batch_size``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        randomness: Randomness,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        self.randomness = randomness

    def clip_and_accumulate(self) -> None:
        for parameter in self.params:
            torch.nan_to_num_(parameter.grad_sample, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        scale = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            noise = scale * self.randomness.normal(tuple(parameter.shape))
            parameter.grad = (parameter.summed_grad.double() + noise).to(parameter.dtype)


def train_steps(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    *,
    steps: int,
    sample_rate: float,
    expected_batch_size: float,
    learning_rate: float,
    momentum: float,
    randomness: Randomness,
    plan: PrivacyPlan | None,
    after_step: Callable[[nn.Module], None] | None = None,
) -> int:
    """Train ``model`` in place for exactly ``steps`` Poisson-sampled steps; return the steps taken.

    Args:
        model: the student; its parameters become the noised result, its buffers stay.
        loss: (student logits, labels, teacher logits) -> per-example losses (n,).
        inputs: private inputs (n, ...), ``labels`` (n,), ``teacher_logits`` (n, classes).
        plan: clipping and noise; None trains without privacy on the same sampled batches.
        after_step: an update that depends on weights alone (FedProx), applied after the noise
            because it would vanish in the loss (rule 9).

    Empty batches take their step like all others: the noise is their update (rule 4).
    """
    model.train()
    base = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    sampler = PoissonSampler(
        num_samples=len(labels), sample_rate=sample_rate, steps=steps, randomness=randomness
    )
    taken = 0
    hooks = None
    optimizer: torch.optim.Optimizer = base
    if plan is not None:
        hooks = GradSampleHooks(model, loss_reduction="sum")
        optimizer = PrivateOptimizer(
            base,
            noise_multiplier=plan.client_noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=expected_batch_size,
            randomness=randomness,
        )
    try:
        for batch in sampler:
            rows = torch.tensor(batch, dtype=torch.long)
            parts = max(1, math.ceil(len(rows) / PHYSICAL_BATCH_SIZE))
            base.zero_grad(set_to_none=True)
            for index, part in enumerate(rows.chunk(parts) if parts > 1 else (rows,)):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="Full backward hook is firing")
                    losses = loss(model(inputs[part]), labels[part], teacher_logits[part])
                    torch.autograd.backward(losses.sum())
                if isinstance(optimizer, PrivateOptimizer):
                    optimizer.signal_skip_step(do_skip=index < parts - 1)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
            if plan is None:
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.grad /= expected_batch_size
                base.step()
            if after_step is not None:
                after_step(model)
            taken += 1
    finally:
        if hooks is not None:
            hooks.cleanup()
    return taken
