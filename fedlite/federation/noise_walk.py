"""How far noise alone carries a student: known before anything is trained, from public numbers.

The noise of all rounds is a random walk. Where it leads much further than the student's own
weights reach, what the student knew is lost, whatever the clients have to say. The clip of a
client's update is derived from this where nobody gives it.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

from torch import nn

from fedlite.federation.cohort import participation_rate
from fedlite.federation.options import FederationOptions
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan

LONGEST_CLIP = 1.0  # of those that are derived
DROWNED = 5.0  # lengths of the student; the shipped experiments, tuned by hand, lie at 0.1 to 2.1


@dataclass(frozen=True)
class TrainedWeights:
    """The trained weights of a student before its training: their number, and their L2 norm."""

    count: int
    length: float

    @classmethod
    def of(cls, student: nn.Module) -> Self:
        """Those of ``student``, as they are now."""
        trained = [one.detach() for one in student.parameters() if one.requires_grad]
        squares = sum(float(one.double().square().sum()) for one in trained)
        return cls(sum(one.numel() for one in trained), math.sqrt(squares))


def noise_walk(
    plan: PrivacyPlan | ClientPlan,
    federation: FederationOptions,
    num_clients: int,
    weights: TrainedWeights,
) -> float | None:
    """The expected way of the noise of all rounds, in lengths of ``weights``.

    None under FedAdam, and for weights that all begin at zero.

    A round moves every weight by noise of standard deviation s, T rounds move d of them by
    s sqrt(d T) together, and a server's momentum of beta repeats each step to 1 / (1 - beta) of it.

    - client-level: s is noise multiplier x clip / expected cohort;
    - example-level: s is noise multiplier of one client x max grad norm x learning rate x
      sqrt(local steps) / (expected batch size x sqrt(expected cohort)).

    FedAdam divides by the size of what it is given, so that its steps say nothing of the noise.
    """
    strategy = federation.strategy
    if strategy.name == "fedadam" or weights.length == 0:
        return None
    if isinstance(plan, ClientPlan):
        step = plan.update_noise_multiplier * plan.clip / plan.expected_cohort
    else:
        cohort = participation_rate(federation, num_clients) * num_clients
        step = plan.client_noise_multiplier * plan.max_grad_norm * federation.learning_rate
        step *= math.sqrt(plan.steps) / (plan.expected_batch_size * math.sqrt(cohort))
    if strategy.name == "fedavgm":
        step *= strategy.learning_rate / (1 - strategy.momentum)
    return step * math.sqrt(weights.count * federation.rounds) / weights.length


def with_bearable_clip(
    plan: ClientPlan, federation: FederationOptions, num_clients: int, weights: TrainedWeights
) -> ClientPlan:
    """``plan`` with the clip under which the noise walks one length of the student.

    That was found to lie within a factor of two of what tuning chose (docs/privacy.md). With many
    clients it is long: at most :data:`LONGEST_CLIP`.
    """
    whole = dataclasses.replace(plan, clip=LONGEST_CLIP)
    walk = noise_walk(whole, federation, num_clients, weights)
    if walk is None or walk <= 1:
        return whole
    return dataclasses.replace(plan, clip=float(f"{LONGEST_CLIP / walk:.2g}"))


def drowned_line(walk: float | None, example_level: bool) -> str:
    """That noise is expected to ruin the student, and what helps; "" where it is not.

    Args:
        walk: by :func:`noise_walk`.
        example_level: whether it is the noise of that unit.
    """
    if walk is None or walk <= DROWNED:
        return ""
    remedy = (
        "more clients, larger batches or fewer rounds, a smaller federation.learning_rate"
        if example_level
        else "leave privacy.client.clip open, or more clients or fewer rounds"
    )
    return (
        f"noise alone is expected to carry the student {walk:.3g} times the length of its weights:"
        f" it will forget what it knew; {remedy}; `fedlite tune` chooses on public data"
    )
