"""Which student goes on to ship: the public-only or the federated one, judged on public data."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.intervals import PairedComparison
from fedlite.base.records import StudentKey
from fedlite.data.types import PublicData
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.public import require_public

Keep = Literal["best", "last"]
ROUNDING = 1e-6  # nats: losses nearer than this are equal


@dataclass(frozen=True)
class KeptStudent:
    """The student that was chosen, and the comparison that chose it.

    ``validation`` compares the public-only student (first) with the federated one (second); None
    where there was no public example that neither had learnt from.
    """

    student: StudentKey
    validation: PairedComparison | None


def keep_student(
    public_student: nn.Module, federated_student: nn.Module, validation: PublicData, keep: Keep
) -> KeptStudent:
    """Choose by accuracy on public examples alone, so that the choice costs no privacy (rule 12).

    Args:
        public_student: distilled on public data only.
        federated_student: what the rounds made of it.
        validation: public examples that trained neither; may be empty.
        keep: ``best`` is the one that is right more often; of two that are right equally often the
            one of the smaller mean cross-entropy, which a few examples tell apart sooner; the
            federated one where that is equal too or nothing can judge. ``last`` is the federated
            one.

    Raises:
        TypeError: ``validation`` is not :class:`PublicData`.
    """
    require_public(validation)
    if len(validation) == 0:
        return KeptStudent("federated_student", None)
    first, second = (
        predict_logits(model, validation.inputs) for model in (public_student, federated_student)
    )
    found = compare_pairs(first, second, validation.labels)
    public_loss, federated_loss = (
        float(F.cross_entropy(logits.double(), validation.labels)) for logits in (first, second)
    )
    surer = found.gained == 0 and public_loss < federated_loss - ROUNDING
    public_only = keep == "best" and (found.gained < 0 or surer)
    return KeptStudent("public_student" if public_only else "federated_student", found)


def compare_pairs(first: Tensor, second: Tensor, labels: Tensor) -> PairedComparison:
    """Compare two models' logits (n, C) on the same examples with ``labels`` (n,)."""
    return PairedComparison.of(
        (first.argmax(dim=1) == labels).numpy(), (second.argmax(dim=1) == labels).numpy()
    )
