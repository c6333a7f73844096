"""Which clients a round asks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedlite.federation.cohort import select_cohort
from fedlite.federation.options import FederationOptions

SEEDS = st.integers(0, 2**32)
ROUNDS = st.integers(1, 10_000)


@given(
    num_clients=st.integers(1, 200),
    fraction=st.floats(0.001, 1.0),
    sampling=st.sampled_from(["fixed", "bernoulli"]),
    seed=SEEDS,
    server_round=ROUNDS,
)
def test_a_cohort_is_a_repeatable_set_of_clients(
    num_clients: int, fraction: float, sampling: str, seed: int, server_round: int
) -> None:
    config = FederationOptions(fraction=fraction, sampling=sampling)
    cohort = select_cohort(config, num_clients, seed, server_round)
    assert cohort == select_cohort(config, num_clients, seed, server_round)
    assert cohort == sorted(set(cohort))
    assert all(type(client) is int and 0 <= client < num_clients for client in cohort)
    if sampling == "fixed":
        assert len(cohort) == max(1, round(fraction * num_clients))


@given(num_clients=st.integers(1, 50), seed=SEEDS, server_round=ROUNDS)
def test_full_participation_asks_everybody(num_clients: int, seed: int, server_round: int) -> None:
    for sampling in ("fixed", "bernoulli"):
        config = FederationOptions(fraction=1.0, sampling=sampling)
        assert select_cohort(config, num_clients, seed, server_round) == list(range(num_clients))


def test_bernoulli_draws_every_client_on_its_own() -> None:
    clients, fraction, rounds = 50, 0.3, 2000
    config = FederationOptions(fraction=fraction, sampling="bernoulli")
    drawn = np.zeros((rounds, clients), dtype=int)
    for server_round in range(rounds):
        drawn[server_round, select_cohort(config, clients, 0, server_round)] = 1
    counts = drawn.sum(axis=1)
    # Mean and variance of a binomial; fixed-size sampling would have variance 0.
    assert abs(counts.mean() - clients * fraction) < 0.4
    assert abs(counts.var() / (clients * fraction * (1 - fraction)) - 1) < 0.15
    assert abs(drawn.mean(axis=0) - fraction).max() < 0.05
    between = np.corrcoef(drawn.T) - np.eye(clients)
    assert abs(between).max() < 0.12


def test_bernoulli_may_ask_nobody() -> None:
    config = FederationOptions(fraction=0.01, sampling="bernoulli")
    assert any(select_cohort(config, 3, 0, server_round) == [] for server_round in range(10))


def test_fixed_cohorts_favour_nobody_and_change_with_round_and_seed() -> None:
    config = FederationOptions(fraction=0.2)
    times = np.zeros(20)
    for server_round in range(2000):
        times[select_cohort(config, 20, 0, server_round)] += 1
    assert abs(times / 2000 - 0.2).max() < 0.05
    assert len({tuple(select_cohort(config, 20, 0, r)) for r in range(50)}) > 40
    assert len({tuple(select_cohort(config, 20, seed, 1)) for seed in range(50)}) > 40
