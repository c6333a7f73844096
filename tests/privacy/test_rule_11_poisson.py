"""Rule 11: what is charged as Poisson sampling is Poisson sampling."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from scipy.stats import binom, chisquare

from fedlite.federation import client_app, training
from fedlite.privacy import steps
from fedlite.privacy.randomness import DeterministicRandomness, Randomness, SecureRandomness
from fedlite.privacy.sampling import PoissonSampler
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld

N, Q, STEPS = 40, 0.2, 4000

Draw = Callable[[int, float, int, Randomness], list[list[int]]]


def draw(n: int, rate: float, steps: int, randomness: Randomness) -> list[list[int]]:
    return list(PoissonSampler(num_samples=n, sample_rate=rate, steps=steps, randomness=randomness))


# --- the checks -----------------------------------------------------------------------------


def check_is_poisson(draw: Draw, randomness: Randomness) -> None:
    """Batch sizes are binomial, rows and steps independent of each other."""
    batches = draw(N, Q, STEPS, randomness)
    assert len(batches) == STEPS
    sizes = np.array([len(batch) for batch in batches])
    assert is_binomial(sizes), "batch sizes are not binomial"
    member = np.zeros((STEPS, N))
    for step, batch in enumerate(batches):
        member[step, batch] = 1
    between_rows = np.corrcoef(member.T) - np.eye(N)
    assert np.abs(between_rows).max() < 5 / np.sqrt(STEPS), "rows depend on each other"
    centred = member - Q
    between_steps = (centred[1:] * centred[:-1]).mean() / (Q * (1 - Q))
    assert abs(between_steps) < 5 / np.sqrt(STEPS * N), "a step depends on the one before"


def is_binomial(sizes: np.ndarray) -> bool:
    """Chi-square test of batch sizes against Binomial(N, Q), tails pooled."""
    low, high = int(binom.ppf(0.01, N, Q)), int(binom.ppf(0.99, N, Q))
    observed = np.bincount(np.clip(sizes, low, high), minlength=high + 1)[low:]
    probability = binom.pmf(np.arange(low, high + 1), N, Q)
    probability[0] = binom.cdf(low, N, Q)
    probability[-1] = binom.sf(high - 1, N, Q)
    return bool(chisquare(observed, probability * len(sizes)).pvalue > 1e-4)


@pytest.mark.parametrize("randomness", [SecureRandomness(), DeterministicRandomness(0)])
def test_batch_sizes_are_binomial_and_draws_independent(randomness: Randomness) -> None:
    check_is_poisson(draw, randomness)


def test_it_is_opacus_sampler_that_clients_train_with(
    client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert issubclass(PoissonSampler, UniformWithReplacementSampler)
    assert client_app.train_client is training.train_client
    assert training.train_steps is steps.train_steps
    assert steps.PoissonSampler is PoissonSampler
    world = client_world()
    assert world.client().workbench  # whose check of the student takes steps of its own
    used: list[PoissonSampler] = []
    real = PoissonSampler.__iter__

    def spy(self: PoissonSampler) -> Iterator[list[int]]:
        used.append(self)
        return real(self)

    monkeypatch.setattr(PoissonSampler, "__iter__", spy)
    world.train(1)
    assert len(used) == 1


# --- planted bugs ---------------------------------------------------------------------------


def shuffled_loader(n: int, rate: float, steps: int, randomness: Randomness) -> list[list[int]]:
    def batches() -> Iterator[list[int]]:
        size = int(n * rate)
        while True:
            order = randomness.uniform(n).argsort().tolist()
            yield from (order[at : at + size] for at in range(0, n, size))

    return list(islice(batches(), steps))


def fixed_size(n: int, rate: float, steps: int, randomness: Randomness) -> list[list[int]]:
    return [randomness.uniform(n).argsort()[: int(n * rate)].tolist() for _ in range(steps)]


def whole_blocks(n: int, rate: float, steps: int, randomness: Randomness) -> list[list[int]]:
    """Sizes of Poisson sampling, but neighbouring rows go together."""
    batches = []
    for rows in draw(n, rate, steps, randomness):
        start = int(randomness.uniform(1) * n)
        batches.append([(start + step) % n for step in range(len(rows))])
    return batches


def batches_used_twice(n: int, rate: float, steps: int, randomness: Randomness) -> list[list[int]]:
    half = draw(n, rate, steps // 2, randomness)
    return [rows for rows in half for _ in range(2)]


@pytest.mark.parametrize(
    ("planted", "because"),
    [
        (shuffled_loader, "not binomial"),
        (fixed_size, "not binomial"),
        (whole_blocks, "rows depend"),
        (batches_used_twice, "not binomial|a step depends"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_planted_samplers_are_caught(planted: Draw, because: str) -> None:
    with caught(because):
        check_is_poisson(planted, DeterministicRandomness(1))
