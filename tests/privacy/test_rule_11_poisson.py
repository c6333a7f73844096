"""Rule 11: what is charged as Poisson sampling is Poisson sampling."""

import numpy as np
import pytest
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from scipy.stats import binom, chisquare

from fedlite.privacy import DeterministicRandomness, Randomness, SecureRandomness
from fedlite.privacy.dp_sgd import PoissonSampler

N, Q, STEPS = 40, 0.2, 4000


def is_binomial(sizes: np.ndarray) -> bool:
    """Chi-square test of batch sizes against Binomial(N, Q), tails pooled."""
    low, high = int(binom.ppf(0.01, N, Q)), int(binom.ppf(0.99, N, Q))
    observed = np.bincount(np.clip(sizes, low, high), minlength=high + 1)[low:]
    probability = binom.pmf(np.arange(low, high + 1), N, Q)
    probability[0] = binom.cdf(low, N, Q)
    probability[-1] = binom.sf(high - 1, N, Q)
    return bool(chisquare(observed, probability * len(sizes)).pvalue > 1e-4)


def draw(randomness: Randomness) -> list[list[int]]:
    return list(PoissonSampler(num_samples=N, sample_rate=Q, steps=STEPS, randomness=randomness))


@pytest.mark.parametrize("randomness", [SecureRandomness(), DeterministicRandomness(0)])
def test_batch_sizes_are_binomial_and_rows_independent(randomness: Randomness) -> None:
    batches = draw(randomness)
    assert len(batches) == STEPS
    assert is_binomial(np.array([len(batch) for batch in batches]))
    member = np.zeros((STEPS, N))
    for step, batch in enumerate(batches):
        member[step, batch] = 1
    correlation = np.corrcoef(member.T) - np.eye(N)
    assert np.abs(correlation).max() < 5 / np.sqrt(STEPS)


def test_the_planted_bug_a_shuffled_loader_is_seen() -> None:
    rng = np.random.default_rng(0)
    size = int(N * Q)
    sizes = [len(part) for _ in range(800) for part in np.split(rng.permutation(N), N // size)]
    assert not is_binomial(np.array(sizes))


def test_it_is_opacus_sampler() -> None:
    assert issubclass(PoissonSampler, UniformWithReplacementSampler)
