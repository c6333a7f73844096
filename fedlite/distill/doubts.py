"""What public data says against a teacher before anything is learnt from it."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedlite.base.intervals import PairedComparison, Right, wilson_interval
from fedlite.data.types import Normalise, PublicData, Task
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.options import TeacherOptions
from fedlite.distill.public import require_public
from fedlite.models.options import SCALES, Scale, ScaledModelOptions
from fedlite.models.scaling import factor_and_shift

EXAMPLES = 500  # public ones that are asked about, at most
COMPARED = 2000  # public ones on which two scales are compared, at most
FEWEST = 30  # of fewer nothing is said of chance
UNLIKELY = 0.01  # that chance alone makes one of the scales look better
LARGE = 1.5  # stored numbers of which some are larger are tried between 0 and 1 as well


def doubt_of(
    teacher: nn.Module, options: TeacherOptions, task: Task, public: PublicData
) -> str | None:
    """Why this teacher may be of no use; None where public data shows no reason.

    One from elsewhere may know inputs in another scale, in which it is better beyond chance; any
    may be right no more often than always answering the most frequent class would be.

    Args:
        teacher: as it will teach; left as it is.
        options: that built it.
        task: what it sees.
        public: that decides; the first :data:`EXAMPLES`, of two scales :data:`COMPARED`.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    require_public(public)
    inputs, labels = public.inputs[:EXAMPLES], public.labels[:EXAMPLES]
    right = _right(teacher, inputs, labels)
    if options.checkpoint is not None and (
        doubt := _of_scale(teacher, options, task, public, right)
    ):
        return doubt
    counts = torch.bincount(labels, minlength=task.num_classes)
    most, share = int(counts.argmax()), float(counts.max()) / len(labels)
    if len(right) < FEWEST or wilson_interval(float(right.mean()), len(right))[0] > share:
        return None
    return (
        f"teacher: it answers {right.mean():.1%} of {len(right)} public examples right, and always"
        f" answering {task.class_names[most]} {share:.1%}; it has nothing to teach beyond that:"
        " look at its checkpoint, classes and training"
    )


def _of_scale(
    teacher: nn.Module,
    options: ScaledModelOptions,
    task: Task,
    public: PublicData,
    right: Right,
) -> str:
    """The scale in which the teacher is better beyond chance, as a line; "" where there is none.

    The best scale of a first look is compared with the given one by McNemar's test, whose level is
    divided by the number of scales that were looked at (Bonferroni).
    """
    plain = task.standardisation
    if plain is None:
        return ""
    others = list(_other_scales(options, plain, public.inputs[:EXAMPLES]))

    def rightness(scale: ScaledModelOptions, count: int) -> Right:
        shown = _rescaled(public.inputs[:count], options, scale, plain)
        return _right(teacher, shown, public.labels[:count])

    shares = [float(rightness(other, EXAMPLES).mean()) for other in others]
    if max(shares) <= right.mean():
        return ""
    chosen = others[shares.index(max(shares))]
    compared = PairedComparison.of(rightness(options, COMPARED), rightness(chosen, COMPARED))
    if compared.gained <= 0 or compared.p_value * len(others) > UNLIKELY:
        return ""
    own, better = compared.accuracies
    asked = f"teacher.normalise={chosen.normalise}"
    if chosen.normalise == "custom":
        asked += f" teacher.mean={chosen.mean} teacher.std={chosen.std}".replace(", ", ",")
    return (
        f"teacher: it answers {own:.1%} of {compared.examples} public examples right where inputs"
        f" are scaled {SCALES[options.normalise]}, and {better:.1%} with {asked}: it seems to have"
        " been trained so; give that option"
    )


def _other_scales(
    options: ScaledModelOptions, plain: Normalise, inputs: Tensor
) -> Iterator[ScaledModelOptions]:
    """The usual scales, as far as they fit the inputs."""
    names: list[Scale] = ["dataset", "unit", "signed", "raw"]
    if inputs.shape[1] == 3:
        names.append("imagenet")
    for name in names:
        if name != options.normalise:
            yield replace(options, normalise=name, mean=None, std=None)
    largest = float(f"{float(plain.undo(inputs).abs().max()) / plain.scale:.4g}")
    if largest > LARGE:
        for mean, std in ((0.0, largest), (largest / 2, largest / 2)):
            yield replace(options, normalise="custom", mean=[mean], std=[std])


def _rescaled(
    inputs: Tensor, known: ScaledModelOptions, other: ScaledModelOptions, plain: Normalise
) -> Tensor:
    """Inputs with which a teacher built by ``known`` sees what one built by ``other`` would."""
    (own_factor, own_shift), (factor, shift) = (
        factor_and_shift(one, plain, inputs.shape[1:]) for one in (known, other)
    )
    return (inputs * factor + shift - own_shift) / own_factor


def _right(teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Right:
    right: Right = (predict_logits(teacher, inputs).argmax(dim=1) == labels).numpy()
    return right
