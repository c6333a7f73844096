"""From options to privacy plans, with public numbers only."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from scipy.stats import binom

from fedlite.base.errors import UsageError
from fedlite.federation.cohort import (
    charged_rate,
    cohort_size,
    over_selected,
    participation_rate,
)
from fedlite.federation.noise_walk import LONGEST_CLIP, TrainedWeights, with_bearable_clip
from fedlite.federation.options import FederationOptions, FleetOptions
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.options import PrivacyOptions
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations

DROPOUTS = 0.1  # share of a cohort that may be missing when a sum is released
SMALL_COHORT_QUANTILE = 0.01  # of the binomial, where clients are drawn or answer one by one
NO_FLEET = FleetOptions()


@dataclass(frozen=True)
class Plans:
    """What a run spends at each unit of privacy; None where that unit is not protected."""

    example: PrivacyPlan | None = None
    client: ClientPlan | None = None

    @classmethod
    def build(
        cls,
        privacy: PrivacyOptions,
        federation: FederationOptions,
        client_sizes: Sequence[int],
        fleet: FleetOptions = NO_FLEET,
        weights: TrainedWeights | None = None,
    ) -> Self:
        """The plans that the options ask for, calibrated.

        Args:
            weights: see :func:`build_client_plan`.

        Raises:
            UsageError: a plan that cannot be kept; see the two functions below.
        """
        return cls(
            build_plan(privacy, federation, client_sizes, fleet) if privacy.example_level else None,
            build_client_plan(privacy, federation, len(client_sizes), weights)
            if privacy.client_level
            else None,
        )

    def to_facts(self) -> dict[str, Any]:
        """As plain values; :meth:`from_facts` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        """Rebuild what :meth:`to_facts` wrote."""
        example, client = facts["example"], facts["client"]
        return cls(
            PrivacyPlan(**example) if example else None, ClientPlan(**client) if client else None
        )


def build_plan(
    privacy: PrivacyOptions,
    federation: FederationOptions,
    client_sizes: Sequence[int],
    fleet: FleetOptions = NO_FLEET,
) -> PrivacyPlan:
    """The example-level plan; a client's nominal size is the average unless it is given.

    Raises:
        UsageError: delta too large, a budget that one participation overdraws, or a smallest
            cohort that no round reaches.
    """
    num_clients = len(client_sizes)
    participations = federation.max_participations or derive_max_participations(
        federation.rounds, charged_rate(federation, num_clients, fleet)
    )
    return PrivacyPlan.build(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.max_grad_norm,
        sample_rate=privacy.sample_rate,
        expected_examples=privacy.expected_examples or sum(client_sizes) // num_clients,
        steps=federation.local_steps,
        max_participations=participations,
        accountant=privacy.accountant,
        randomness=privacy.randomness,
        trust=privacy.trust,
        min_cohort=min_cohort(privacy, federation, num_clients, fleet)
        if privacy.trust == "aggregate"
        else 1,
        colluders=privacy.aggregate.colluders,
    )


def build_client_plan(
    privacy: PrivacyOptions,
    federation: FederationOptions,
    num_clients: int,
    weights: TrainedWeights | None = None,
) -> ClientPlan:
    """The client-level plan.

    Args:
        weights: of the student before training, from which a clip that is left open follows. None,
            where no clip is asked for: the longest.

    Raises:
        UsageError: delta too large for so many clients, or a budget that no noise meets.
    """
    client = privacy.client
    plan = ClientPlan.build(
        epsilon=client.epsilon,
        delta=client.delta,
        noise_multiplier=client.noise_multiplier,
        clip=LONGEST_CLIP if client.clip is None else client.clip,
        participation_rate=participation_rate(federation, num_clients),
        num_clients=num_clients,
        rounds=federation.rounds,
        accountant=client.accountant,
        randomness=privacy.randomness,
        adaptive=client.adaptive_clip,
        target_quantile=client.target_quantile,
        clip_learning_rate=client.clip_learning_rate,
        bit_noise=client.bit_noise,
    )
    if client.clip is not None or weights is None:
        return plan
    return with_bearable_clip(plan, federation, num_clients, weights)


def answering_share(fleet: FleetOptions) -> float:
    """Of the clients that a round asks, how many are there and stay until they have answered."""
    weights = sum(one.share for one in fleet.classes.values())
    answering = sum(
        one.share * one.availability * (1 - one.dropout) for one in fleet.classes.values()
    )
    return answering / weights


def min_cohort(
    privacy: PrivacyOptions,
    federation: FederationOptions,
    num_clients: int,
    fleet: FleetOptions = NO_FLEET,
) -> int:
    """The smallest cohort whose sum is released under aggregate trust.

    Raises:
        UsageError: a given one that no round can reach.
    """
    given = privacy.aggregate.min_cohort
    bernoulli = federation.sampling == "bernoulli" and federation.fraction < 1
    largest = num_clients
    if federation.fraction < 1 and not (bernoulli and fleet.over_selection == 1):
        largest = cohort_size(federation, num_clients)
    if (given or 2) > largest:
        raise UsageError(
            f"privacy.aggregate.min_cohort={given or 2}: no round has more than {largest} clients,"
            " so none would be released"
        )
    if given is not None:
        return given
    usual = largest
    if bernoulli:
        usual = int(binom.ppf(SMALL_COHORT_QUANTILE, num_clients, federation.fraction))
    if fleet.simulated:
        asked = participation_rate(over_selected(federation, fleet), num_clients)
        answers = binom.ppf(SMALL_COHORT_QUANTILE, num_clients, asked * answering_share(fleet))
        usual = min(largest, int(answers))
    return max(2, math.floor((1 - DROPOUTS) * usual))
