"""Which examples a step sees: Poisson sampling, as the accountants assume it (rule 11)."""

from collections.abc import Iterator

from opacus.utils.uniform_sampler import UniformWithReplacementSampler

from fedlite.privacy.randomness import Randomness


class PoissonSampler(UniformWithReplacementSampler):  # type: ignore[misc]
    """Opacus' Poisson sampler drawing from a :class:`Randomness` (rules 5 and 11).

    Each of ``steps`` iterations yields the rows of one batch, ascending; a batch may be empty, and
    where there are no examples all are.
    """

    def __init__(
        self, *, num_samples: int, sample_rate: float, steps: int, randomness: Randomness
    ) -> None:
        # Opacus refuses 0 examples; a client that has none takes its steps, and so does not tell.
        super().__init__(num_samples=max(num_samples, 1), sample_rate=sample_rate, steps=steps)
        self.num_samples = num_samples
        self.randomness = randomness

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps):
            chosen = self.randomness.uniform(self.num_samples) < self.sample_rate
            yield chosen.nonzero().reshape(-1).tolist()
