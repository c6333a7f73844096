"""One charge of a ledger: what one participation costs, in the terms of the accountants."""

import math
from dataclasses import dataclass

from fedlite.privacy.accounting import Segment


@dataclass(frozen=True)
class Charge:
    """One participation: ``steps`` Poisson-sampled Gaussian steps of one round of one run.

    ``noise_multiplier`` is the one that the accountants compose. Under ``trust`` aggregate that is
    the noise of the whole sum, and ``client_noise_multiplier`` the share that the client itself
    added (None: the same, as under trust local).
    """

    run: str
    round: int
    noise_multiplier: float
    sample_rate: float
    steps: int
    trust: str = "local"
    client_noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        """Refuse a charge that would not cost anything, or give something back.

        Raises:
            ValueError: names the field.
        """
        if not (isinstance(self.run, str) and isinstance(self.round, int)):
            raise ValueError(f"run {self.run!r} and round {self.round!r} are not text and number")
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps {self.steps} is not a whole number of 1 or more")
        if not _positive(self.noise_multiplier):
            raise ValueError(f"noise multiplier {self.noise_multiplier} is not above 0 and finite")
        if not (_positive(self.sample_rate) and self.sample_rate <= 1):
            raise ValueError(f"sample rate {self.sample_rate} is not above 0 and at most 1")
        if self.trust not in ("local", "aggregate"):
            raise ValueError(f"trust {self.trust!r} is not local or aggregate")
        own = self.client_noise_multiplier
        if own is not None and not _positive(own):
            raise ValueError(f"client noise multiplier {own} is not above 0 and finite")
        if own is not None and self.trust == "local" and own < self.noise_multiplier:
            raise ValueError(
                f"client noise multiplier {own} is below the {self.noise_multiplier} that trust"
                " local claims for the client alone"
            )

    @property
    def segment(self) -> Segment:
        """The charge as the accountants take it; under trust aggregate, towards those who see
        sums only."""
        return (self.noise_multiplier, self.sample_rate, self.steps)

    @property
    def local_segment(self) -> Segment:
        """The charge towards those who see the client's own update."""
        own = self.client_noise_multiplier
        return (self.noise_multiplier if own is None else own, self.sample_rate, self.steps)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf
