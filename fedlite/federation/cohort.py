"""Which clients a round asks: never by loss, always from (seed, round)."""

import numpy as np

from fedlite.config import FederationConfig
from fedlite.privacy import derive_seed


def participation_rate(config: FederationConfig, num_clients: int) -> float:
    """The probability that a round asks one given client."""
    if config.sampling == "bernoulli" or config.fraction >= 1:
        return config.fraction
    return cohort_size(config, num_clients) / num_clients


def cohort_size(config: FederationConfig, num_clients: int) -> int:
    """Clients of a round under fixed-size sampling."""
    return max(1, round(config.fraction * num_clients))


def select_cohort(
    config: FederationConfig, num_clients: int, seed: int, server_round: int
) -> list[int]:
    """Client ids of one round in ascending order.

    ``fixed`` draws :func:`cohort_size` clients without replacement;
    ``bernoulli`` draws each client on its own with probability ``fraction`` (a round may be empty).
    """
    if config.fraction >= 1:
        return list(range(num_clients))
    rng = np.random.default_rng(derive_seed(seed, "cohort", server_round))
    if config.sampling == "bernoulli":
        return [int(i) for i in np.flatnonzero(rng.random(num_clients) < config.fraction)]
    size = cohort_size(config, num_clients)
    return sorted(int(i) for i in rng.choice(num_clients, size=size, replace=False))
