"""Client-level privacy: Poisson-sampled cohorts, clipped updates, noise on their sum.

Neighbours: add or remove one client with all its data. The guarantee holds against whoever sees
the released models; the server, which sees single updates, is trusted. Nothing here depends on
which clients answered or on how many examples they hold: a sum is divided by the public constant
``expected_cohort``, and a round without a single update releases noise like every other (rule 14
of docs/privacy.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.privacy.accounting import (
    Segment,
    calibrate_noise_multiplier,
    compute_epsilon,
    refuse_without_epsilon,
)
from fedlite.privacy.randomness import Randomness

State = dict[str, Tensor]


@dataclass(frozen=True)
class ClientPlan:
    """Client-level privacy of one run: sampling, clipping, noise and accounting of its releases.

    Guarantee: ``rounds`` releases by :func:`release_average`, each over a cohort that
    :func:`draw_cohort` drew with ``participation_rate``, are (``epsilon``, ``delta``)-DP towards
    everyone who sees the releases and not the cohorts; neighbours differ in one client.

    ``noise_multiplier`` is the one that is charged. Where the clip is ``adaptive``, a round
    releases two noised sums over one cohort, the updates' and the count of unclipped clients (to
    which noise of standard deviation ``bit_noise`` is added): together they are one Gaussian
    mechanism with ``noise_multiplier``, and :attr:`update_noise_multiplier` is what the sum of
    updates gets (Andrew et al. 2021, arXiv 1905.03871, theorem 1).
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    clip: float
    participation_rate: float
    expected_cohort: float
    rounds: int
    accountant: str
    randomness: str
    adaptive: bool = False
    target_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    bit_noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values under which clipping, averaging or noise would have no meaning.

        Raises:
            UsageError: names the field.
        """
        for name in ("noise_multiplier", "clip", "expected_cohort"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(
                    f"client-level plan: {name} {getattr(self, name)} is not above 0 and finite"
                )
        if not 0 < self.participation_rate <= 1:
            raise UsageError(
                f"client-level plan: participation rate {self.participation_rate} is not above 0"
                " and at most 1"
            )
        if not 0 < self.delta < 1:
            raise UsageError(f"client-level plan: delta {self.delta} is not between 0 and 1")
        if self.rounds < 1:
            raise UsageError(f"client-level plan: {self.rounds} rounds; must be 1 or more")
        if self.adaptive and not self.noise_multiplier / 2 < self.bit_noise < math.inf:
            raise UsageError(
                f"privacy.client.bit_noise={self.bit_noise:g}: must be above half the noise"
                f" multiplier ({self.noise_multiplier / 2:.3g}) and finite, or no noise on the"
                " updates would make up for it; raise it, or leave it out"
            )

    @property
    def segment(self) -> Segment:
        """What one round adds to the server's ledger, adaptive or not."""
        return (self.noise_multiplier, self.participation_rate, 1)

    @property
    def update_noise_multiplier(self) -> float:
        """Noise on the sum of the clipped updates, in units of the clip."""
        if not self.adaptive:
            return self.noise_multiplier
        return 1 / math.sqrt(self.noise_multiplier**-2 - (2 * self.bit_noise) ** -2)

    def epsilon_after(self, rounds: int, accountant: str | None = None) -> float:
        """Epsilon spent after so many releases of this plan and of nothing else."""
        history = [(self.noise_multiplier, self.participation_rate, rounds)]
        return compute_epsilon(history, self.delta, accountant or self.accountant)

    @classmethod
    def build(
        cls,
        *,
        epsilon: float | None,
        delta: float | None,
        noise_multiplier: float | None,
        clip: float,
        participation_rate: float,
        num_clients: int,
        rounds: int,
        accountant: str,
        randomness: str,
        adaptive: bool,
        target_quantile: float,
        clip_learning_rate: float,
        bit_noise: float | None,
    ) -> "ClientPlan":
        """Calibrate once for all rounds, or take ``noise_multiplier`` as given.

        Args:
            epsilon: the budget; None with a noise multiplier: what all rounds cost.
            delta: None: a tenth of 1 / ``num_clients``.
            bit_noise: None: a twentieth of the expected cohort, as Andrew et al. recommend, and
                the noise multiplier at least, so that the updates' noise grows by 16% at most.

        Raises:
            UsageError: delta is not below 1 / ``num_clients``, the bits get too little noise, or
                the given noise multiplier does not even allow one round within ``epsilon``.
        """
        if delta is None:
            delta = 0.1 / num_clients
        if delta >= 1 / num_clients:
            raise UsageError(
                f"privacy.client.delta={delta:g}: must be below 1 / clients"
                f" (1/{num_clients} = {1 / num_clients:.2g})"
            )
        if noise_multiplier is None:
            if epsilon is None:
                raise UsageError(
                    "privacy: give privacy.client.epsilon or privacy.client.noise_multiplier"
                )
            noise_multiplier = calibrate_noise_multiplier(
                epsilon=epsilon,
                delta=delta,
                sample_rate=participation_rate,
                steps=rounds,
                accountant=accountant,
            )
        elif epsilon is None:
            whole = [(noise_multiplier, participation_rate, rounds)]
            epsilon = compute_epsilon(whole, delta, accountant)
            refuse_without_epsilon(noise_multiplier, epsilon, "privacy.client")
        once = compute_epsilon([(noise_multiplier, participation_rate, 1)], delta, accountant)
        if once > epsilon:
            raise UsageError(
                f"privacy.client.noise_multiplier={noise_multiplier:g}: one round costs epsilon"
                f" {once:.3g}, more than privacy.client.epsilon={epsilon:g}; raise one of the two"
            )
        expected_cohort = participation_rate * num_clients
        if bit_noise is None:
            bit_noise = max(expected_cohort / 20, noise_multiplier)
        return cls(
            epsilon=epsilon,
            delta=delta,
            noise_multiplier=noise_multiplier,
            clip=clip,
            participation_rate=participation_rate,
            expected_cohort=expected_cohort,
            rounds=rounds,
            accountant=accountant,
            randomness=randomness,
            adaptive=adaptive,
            target_quantile=target_quantile,
            clip_learning_rate=clip_learning_rate,
            bit_noise=bit_noise if adaptive else 0.0,
        )


@dataclass(frozen=True)
class Release:
    """What one round publishes: the noised average update, and the clip of the next round."""

    average: State
    clip: float


def clip_update(update: State, clip: float) -> tuple[State, float]:
    """Scale ``update`` down to an L2 norm of ``clip`` over all its arrays together.

    Returns:
        the clipped update in float64, of a norm of at most ``clip``, and the norm before. An
        update that is not finite becomes zeros, with a norm of infinity.
    """
    doubles = {name: value.double() for name, value in update.items()}
    norm = math.sqrt(sum(float(value.square().sum()) for value in doubles.values()))
    if not math.isfinite(norm):
        return {name: torch.zeros_like(value) for name, value in doubles.items()}, math.inf
    if norm <= clip:
        return doubles, norm
    return {name: value * (clip / norm) for name, value in doubles.items()}, norm


def release_average(
    updates: Sequence[State], like: State, plan: ClientPlan, clip: float, randomness: Randomness
) -> Release:
    """Clip every update, sum, add Gaussian noise, divide by the constant expected cohort.

    One client moves the sum by at most ``clip``; the noise on every coordinate of it has standard
    deviation ``plan.update_noise_multiplier * clip``. Every call is one release and costs
    ``plan.segment``: charge it first.

    Args:
        updates: the checked replies of the cohort, each the client's new state minus the round's.
            Clients that failed or refused are absent; the divisor does not change with them.
        like: names, shapes and types of the average; the round's state will do.
        clip: L2 norm of one update in this round: ``plan.clip`` in the first, then that of the
            last release.
    """
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in like.items()}
    bits = 0.0
    for update in updates:
        clipped, norm = clip_update(update, clip)
        bits += 0.5 if norm <= clip else -0.5
        for name, total in sums.items():
            total += clipped[name]
    scale = plan.update_noise_multiplier * clip
    average: State = {}
    for name, total in sums.items():
        noise = scale * randomness.normal(tuple(total.shape))
        average[name] = ((total + noise) / plan.expected_cohort).to(like[name].dtype)
    if plan.adaptive:
        noised_bits = bits + plan.bit_noise * float(randomness.normal((1,)))
        clip = _follow_quantile(clip, noised_bits / plan.expected_cohort + 0.5, plan)
    return Release(average, clip)


def _follow_quantile(clip: float, unclipped: float, plan: ClientPlan) -> float:
    """One geometric step of the clip towards the target quantile of the norms.

    ``unclipped`` estimates the share of updates with a norm of at most ``clip``. A client's bit
    counts as +1/2 or -1/2, so that it moves the count by 1/2 and not by 1, the sum of them is
    divided by the expected cohort m, and 1/2 is added back. With a cohort of k that is
    (count - k/2)/m + 1/2 = count/m + (m - k)/(2m): unbiased over Poisson-sampled cohorts, whose k
    is m in expectation. Adding k/(2m), which would be exact, would release k without noise.
    Absent clients count as half, so failures pull the estimate towards 1/2.

    Noise can push the estimate out of [0, 1]. The step's exponent is bounded symmetrically, which
    leaves its fixed point where it is; a bound at 0 and 1 would move it.
    """
    excess = max(-1.0, min(1.0, unclipped - plan.target_quantile))
    return clip * math.exp(-plan.clip_learning_rate * excess)


def draw_cohort(num_clients: int, rate: float, randomness: Randomness) -> list[int]:
    """Ids of the clients of one round, ascending: each on its own with probability ``rate``.

    This is the sampling that the accountants assume (rule 15); a cohort may be empty. The
    amplification holds only while the draw is secret, so ``randomness`` must be, too.
    """
    chosen = randomness.uniform(num_clients) < rate
    return [int(i) for i in chosen.nonzero().reshape(-1)]
