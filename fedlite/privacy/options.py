"""The options of privacy: units, trust, budgets, mechanisms, accountants, engines."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from fedlite.base.options import LATER, NEUTRAL, PATH, Doc, Options

Unit = Literal["example", "client", "both", "none"]
Trust = Literal["local", "aggregate"]
Accountant = Literal["prv", "pld", "rdp"]
RandomnessMode = Literal["secure", "deterministic"]
Gradients = Literal["bookkeeping", "opacus"]
DEFAULT_GRADIENTS: Gradients = "bookkeeping"

# Beyond these single precision ends before the weights do, and no accountant is sound.
SMALLEST_RATE, LARGEST_NOISE = 1e-12, 1e6
MOST_AUGMENTATIONS = 64  # De et al. 2022 gain nothing beyond 32


class Protects:
    """What follows from a ``unit`` of privacy."""

    unit: Unit

    @property
    def private(self) -> bool:
        """Whether training carries a differential privacy guarantee of any unit."""
        return self.unit != "none"

    @property
    def example_level(self) -> bool:
        """Whether clients train with DP-SGD."""
        return self.unit in ("example", "both")

    @property
    def client_level(self) -> bool:
        """Whether the server releases clipped and noised sums only."""
        return self.unit in ("client", "both")


@dataclass(frozen=True)
class AggregateTrustOptions(Options):
    """``privacy.trust=aggregate``: noise that is complete only in the sum over a cohort."""

    min_cohort: Annotated[
        int | None, Ge(2), Doc("smallest cohort released; null: nine tenths of the usual one")
    ] = None
    colluders: Annotated[
        int, Ge(0), Doc("clients assumed to tell the observer their own noise")
    ] = 0


@dataclass(frozen=True)
class ClientLevelOptions(Options):
    """Client-level privacy: clip every client's update, sum, add noise to the sum."""

    epsilon: Annotated[
        float | None,
        Gt(0),
        Doc("budget of the released models over all rounds; null: what noise_multiplier costs"),
    ] = 8.0
    delta: Annotated[float | None, Gt(0), Lt(1), Doc("below 1 / clients; null: 0.1 / clients")] = (
        None
    )
    noise_multiplier: Annotated[
        float | None, Gt(0), Doc("given directly instead of calibrated from epsilon")
    ] = None
    clip: Annotated[
        float | None,
        Gt(0),
        Doc("L2 norm of a client's update, where adaptive the first; null: what the noise bears"),
    ] = None
    accountant: Annotated[Accountant, Doc("calibrates, filters and reports")] = "pld"
    adaptive_clip: Annotated[
        bool, Doc("follow a noised quantile of the norms (Andrew et al. 2021)")
    ] = False
    target_quantile: Annotated[float, Gt(0), Lt(1), Doc("of the norms, for adaptive_clip")] = 0.5
    clip_learning_rate: Annotated[float, Gt(0), Doc("of the geometric steps of the clip")] = 0.2
    bit_noise: Annotated[
        float | None, Gt(0), Doc("standard deviation on the count of unclipped; null: derived")
    ] = None


@dataclass(frozen=True)
class PrivacyOptions(Protects, Options):
    """The privacy budgets and mechanisms. ``unit=none`` trains without any guarantee.

    The options outside ``client`` are those of example-level privacy.
    """

    unit: Annotated[Unit, Doc("what is protected")] = "example"
    trust: Annotated[Trust, Doc("aggregate: noise is complete in the sum only (an assumption)")] = (
        "local"
    )
    epsilon: Annotated[
        float | None,
        Gt(0),
        Doc("budget of every client for the whole run; null: what noise_multiplier costs"),
    ] = 8.0
    delta: Annotated[float, Gt(0), Lt(1), Doc("below 1 / examples of a client")] = 1e-5
    noise_multiplier: Annotated[
        float | None,
        Gt(0),
        Le(LARGEST_NOISE),
        Doc("given directly instead of calibrated from epsilon"),
    ] = None
    max_grad_norm: Annotated[float, Gt(0), Doc("L2 norm that one example's gradient is cut to")] = (
        2.0
    )
    sample_rate: Annotated[
        float,
        Ge(SMALLEST_RATE),
        Le(1),
        Doc("Poisson probability of each example in each local step"),
    ] = 0.5
    expected_examples: Annotated[
        int | None, Ge(1), Doc("public nominal examples of a client; null: the average")
    ] = None
    accountant: Annotated[Accountant, Doc("calibrates, filters and reports")] = "prv"
    randomness: Annotated[RandomnessMode, Doc("deterministic: repeatable, and NOT PRIVATE")] = (
        "secure"
    )
    gradients: Annotated[
        Gradients, Doc("engine of the clipped sums; the same but for rounding, opacus slower")
    ] = DEFAULT_GRADIENTS
    augmentations: Annotated[
        int,
        LATER,
        Ge(0),
        Le(MOST_AUGMENTATIONS),
        Doc("copies by dataset.augment that an example's gradient is the mean of; 0: as it is"),
    ] = 0
    ledger_dir: Annotated[str | None, PATH, NEUTRAL, Doc("null: ledgers/ in the run directory")] = (
        None
    )
    policy: Annotated[
        str | None, PATH, Doc("file with the devices' own rules, which no option can weaken")
    ] = None
    aggregate: AggregateTrustOptions = field(default_factory=AggregateTrustOptions)
    client: ClientLevelOptions = field(default_factory=ClientLevelOptions)
