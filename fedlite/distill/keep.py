"""Which student goes on to ship: the public-only or the federated one, judged on public data."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.intervals import PairedComparison
from fedlite.base.paired_scores import PairedScores
from fedlite.base.records import Metric, StudentKey
from fedlite.data.types import PublicData
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.public import require_public

Keep = Literal["best", "last"]
ROUNDING = 1e-6  # nats: losses nearer than this are equal


@dataclass(frozen=True)
class KeptStudent:
    """The student that was chosen, and the comparison that chose it.

    ``validation`` compares the public-only student (first) with the federated one (second), and so
    do ``scores`` where macro-F1 was asked for; None where there was no public example that neither
    had learnt from.
    """

    student: StudentKey
    validation: PairedComparison | None
    scores: PairedScores | None = None


def keep_student(
    public_student: nn.Module,
    federated_student: nn.Module,
    validation: PublicData,
    keep: Keep,
    metric: Metric = "accuracy",
) -> KeptStudent:
    """Choose by ``metric`` on public examples alone, so that the choice costs no privacy (rule 12).

    Args:
        public_student: distilled on public data only.
        federated_student: what the rounds made of it.
        validation: public examples that trained neither; may be empty.
        keep: ``best`` is the one that is right more often, or of the higher macro-F1; of equal ones
            the one of the smaller mean cross-entropy, which a few examples tell apart sooner; the
            federated one where that is equal too or nothing can judge. ``last`` is the federated
            one.
        metric: ``dataset.metric``.

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
    scores = compare_scores(first, second, validation.labels) if metric == "macro_f1" else None
    gained = found.gained if scores is None else scores.gained
    surer = gained == 0 and public_loss < federated_loss - ROUNDING
    public_only = keep == "best" and (gained < 0 or surer)
    return KeptStudent("public_student" if public_only else "federated_student", found, scores)


def compare_pairs(first: Tensor, second: Tensor, labels: Tensor) -> PairedComparison:
    """Compare two models' logits (n, C) on the same examples with ``labels`` (n,)."""
    return PairedComparison.of(
        (first.argmax(dim=1) == labels).numpy(), (second.argmax(dim=1) == labels).numpy()
    )


def compare_scores(first: Tensor, second: Tensor, labels: Tensor) -> PairedScores:
    """Compare the macro-F1 of two models' logits (n, C), as :func:`compare_pairs`."""
    answers = (first.argmax(dim=1).numpy(), second.argmax(dim=1).numpy())
    return PairedScores.of(*answers, labels.numpy(), first.shape[1])
