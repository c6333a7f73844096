"""The example-level plan: sampling, clipping, noise and accounting, built together and frozen.

Every field is a public constant (rules 2 and 3 of docs/privacy.md): none is derived from how many
examples a client holds.
"""

import math
from dataclasses import dataclass

from scipy.stats import binom

from fedlite.base.errors import UsageError
from fedlite.privacy.accounting import (
    Segment,
    calibrate_noise_multiplier,
    compute_epsilon,
    refuse_without_epsilon,
)

PARTICIPATION_QUANTILE = 0.999


@dataclass(frozen=True)
class PrivacyPlan:
    """Example-level DP-SGD for one client over all its participations.

    Guarantee with ``trust`` local: a client that charges its ledger for at most
    ``max_participations`` rounds of ``steps`` Poisson-sampled Gaussian steps is (``epsilon``,
    ``delta``)-DP towards everyone who sees its updates, the server included; neighbours differ in
    one example of that client.

    With ``trust`` aggregate the same holds only towards those who see no single update, but sums
    over at least ``min_cohort`` of them: every client adds a share of the noise, and the shares
    of a sum reach ``noise_multiplier`` without those of the observer, if it is a client itself,
    and of ``colluders`` more (rule 19).
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    expected_examples: int
    steps: int
    max_participations: int
    accountant: str
    randomness: str
    trust: str = "local"
    min_cohort: int = 1
    colluders: int = 0

    def __post_init__(self) -> None:
        """Refuse values under which clipping or averaging would have no meaning.

        Raises:
            UsageError: names the field.
        """
        if not 0 < self.max_grad_norm < math.inf:
            raise UsageError(f"plan: max grad norm {self.max_grad_norm} is not above 0 and finite")
        if self.expected_examples < 1 or self.max_participations < 1:
            raise UsageError("plan: expected examples and max participations must be 1 or more")
        if not 0 < self.delta < 1:
            raise UsageError(f"plan: delta {self.delta} is not between 0 and 1")
        if self.trust not in ("local", "aggregate"):
            raise UsageError(f"plan: trust {self.trust!r} is not local or aggregate")
        if self.trust == "aggregate" and self.steps != 1:
            raise UsageError(
                f"plan: {self.steps} local steps under trust aggregate, which is valid for one only"
                " (privacy rule 19)"
            )
        if self.trust == "aggregate" and self.sharers < 1:
            raise UsageError(
                f"plan: a cohort of {self.min_cohort} with {self.colluders} colluders leaves nobody"
                " whose noise an observer does not know; raise privacy.aggregate.min_cohort"
            )

    @property
    def expected_batch_size(self) -> float:
        """The constant that summed gradients are divided by."""
        return self.sample_rate * self.expected_examples

    @property
    def sharers(self) -> int:
        """Clients whose noise counts in the smallest released sum."""
        return self.min_cohort - 1 - self.colluders

    @property
    def client_noise_multiplier(self) -> float:
        """What one client adds to its own summed gradients, in units of ``max_grad_norm``."""
        if self.trust == "local":
            return self.noise_multiplier
        return self.noise_multiplier / math.sqrt(self.sharers)

    @property
    def segment(self) -> Segment:
        """What one participation adds to a ledger."""
        return (self.noise_multiplier, self.sample_rate, self.steps)

    def epsilon_after(self, participations: int, accountant: str | None = None) -> float:
        """Epsilon spent after so many participations in this plan and in nothing else."""
        noise_multiplier, sample_rate, steps = self.segment
        history = [(noise_multiplier, sample_rate, steps * participations)]
        return compute_epsilon(history, self.delta, accountant or self.accountant)

    @classmethod
    def build(
        cls,
        *,
        epsilon: float | None,
        delta: float,
        noise_multiplier: float | None,
        max_grad_norm: float,
        sample_rate: float,
        expected_examples: int,
        steps: int,
        max_participations: int,
        accountant: str,
        randomness: str,
        trust: str = "local",
        min_cohort: int = 1,
        colluders: int = 0,
    ) -> "PrivacyPlan":
        """Calibrate once for the whole plan, or take ``noise_multiplier`` as given.

        With a noise multiplier and no ``epsilon`` the budget is what the whole plan costs.

        Raises:
            UsageError: delta is not below 1 / ``expected_examples``, or the given noise
                multiplier has no epsilon or does not even allow one participation within it.
        """
        if delta >= 1 / expected_examples:
            raise UsageError(
                f"privacy.delta={delta:g}: must be below 1/n of a client"
                f" (1/{expected_examples} = {1 / expected_examples:.2g})"
            )
        if noise_multiplier is None:
            if epsilon is None:
                raise UsageError("privacy: give privacy.epsilon or privacy.noise_multiplier")
            noise_multiplier = calibrate_noise_multiplier(
                epsilon=epsilon,
                delta=delta,
                sample_rate=sample_rate,
                steps=steps * max_participations,
                accountant=accountant,
            )
        elif epsilon is None:
            whole = [(noise_multiplier, sample_rate, steps * max_participations)]
            epsilon = compute_epsilon(whole, delta, accountant)
            refuse_without_epsilon(noise_multiplier, epsilon, "privacy")
        once = compute_epsilon([(noise_multiplier, sample_rate, steps)], delta, accountant)
        if once > epsilon:
            raise UsageError(
                f"privacy.noise_multiplier={noise_multiplier:g}: one participation costs epsilon"
                f" {once:.3g}, more than privacy.epsilon={epsilon:g}; raise one of the two"
            )
        return cls(
            epsilon=epsilon,
            delta=delta,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            sample_rate=sample_rate,
            expected_examples=expected_examples,
            steps=steps,
            max_participations=max_participations,
            accountant=accountant,
            randomness=randomness,
            trust=trust,
            min_cohort=min_cohort,
            colluders=colluders,
        )


def derive_max_participations(rounds: int, fraction: float) -> int:
    """Rounds a client may be asked for: all under full participation, else the 0.999 quantile of
    the binomial (its mean would make half of the clients run out of budget)."""
    if fraction >= 1:
        return rounds
    return max(1, int(binom.ppf(PARTICIPATION_QUANTILE, rounds, fraction)))
