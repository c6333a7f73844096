"""Which clients a round asks: never by loss.

From (seed, round), so that a run can be repeated; but client-level privacy counts on nobody
knowing the cohort, so there it is drawn from secret randomness (rules 5 and 15).
"""

from dataclasses import replace

import numpy as np

from fedlite.federation.options import FederationOptions, FleetOptions
from fedlite.privacy.client_level import draw_cohort
from fedlite.privacy.randomness import SecureRandomness, derive_seed


def participation_rate(config: FederationOptions, num_clients: int) -> float:
    """The probability that a round asks one given client."""
    if config.sampling == "bernoulli" or config.fraction >= 1:
        return config.fraction
    return cohort_size(config, num_clients) / num_clients


def cohort_size(config: FederationOptions, num_clients: int) -> int:
    """Clients of a round under fixed-size sampling."""
    return max(1, round(config.fraction * num_clients))


def over_selected(config: FederationOptions, fleet: FleetOptions) -> FederationOptions:
    """``config`` with the fraction that a round asks in order to hear from ``config.fraction``."""
    return replace(config, fraction=min(1.0, config.fraction * fleet.over_selection))


def charged_rate(config: FederationOptions, num_clients: int, fleet: FleetOptions) -> float:
    """An upper bound of the probability that a round charges one given client's own ledger.

    Whoever is asked and there is charged, counted or not: so over-selection raises it, and a fleet
    whose clients are seldom there lowers it.
    """
    asked = participation_rate(over_selected(config, fleet), num_clients)
    return asked * max((one.availability for one in fleet.classes.values()), default=1.0)


def select_cohort(
    config: FederationOptions,
    num_clients: int,
    seed: int,
    server_round: int,
    *,
    secret: bool = False,
) -> list[int]:
    """Client ids of one round in ascending order.

    ``fixed`` draws :func:`cohort_size` clients without replacement;
    ``bernoulli`` draws each client on its own with probability ``fraction`` (a round may be empty),
    from a secure generator if ``secret``.
    """
    if config.fraction >= 1:
        return list(range(num_clients))
    if secret:
        return draw_cohort(num_clients, config.fraction, SecureRandomness())
    rng = np.random.default_rng(derive_seed(seed, "cohort", server_round))
    if config.sampling == "bernoulli":
        return [int(i) for i in np.flatnonzero(rng.random(num_clients) < config.fraction)]
    size = cohort_size(config, num_clients)
    return sorted(int(i) for i in rng.choice(num_clients, size=size, replace=False))
