"""The seam of losses: features that a loss taps, rows of answers, and what is refused."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.data.options import AugmentOptions
from fedlite.distill.answers import Answers, answers_of, in_channels_last, taught_answers
from fedlite.distill.loss import TaughtExamples, build_loss, check_separable, check_taps
from fedlite.distill.options import LOSSES, LossOptions
from fedlite.distill.public import distil_on_public, teacher_answers
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions

STUDENT_TAP, TEACHER_TAP = "hidden.0", "hidden.2"


class Hints:
    """Features of the student as near as can be to those of the teacher (FitNets)."""

    student_taps = (STUDENT_TAP,)
    teacher_taps = (TEACHER_TAP,)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        found, wanted = student.features[STUDENT_TAP], teacher.features[TEACHER_TAP]
        return ((found - wanted) ** 2).mean(dim=1)


class Centred(Hints):
    """Planted: features in units of the batch, so that a row hangs on all others."""

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        found, wanted = student.features[STUDENT_TAP], teacher.features[TEACHER_TAP]
        return ((found - found.mean(dim=0) - wanted) ** 2).mean(dim=1)


class CentredTeacher(Hints):
    """Planted: the same, by way of the teacher's features."""

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        found, wanted = student.features[STUDENT_TAP], teacher.features[TEACHER_TAP]
        return ((found - (wanted - wanted.mean(dim=0))) ** 2).mean(dim=1)


def build_hints(options: LossOptions) -> Hints:
    """What ``distill.loss`` may name."""
    return Hints()


@pytest.fixture
def student(task):
    return build_model(ModelOptions("mlp", "fedlite.models.mlp.MLP", {"hidden": [12]}), task, 0)


@pytest.fixture
def teacher(task):
    """Its second hidden layer is as wide as the student's first."""
    return build_model(ModelOptions("mlp", "fedlite.models.mlp.MLP", {"hidden": [20, 12]}), task, 1)


def distance(student: nn.Module, teacher: nn.Module, inputs: Tensor) -> float:
    answers = taught_answers(student, inputs, Hints.student_taps)
    wanted = taught_answers(teacher, inputs, Hints.teacher_taps)
    return float(Hints()(answers, torch.zeros(len(inputs)), wanted).mean())


def test_a_tap_is_what_the_module_answered(student, digits):
    inputs = digits[0].inputs[:5]
    answers = answers_of(student, inputs, [STUDENT_TAP, "hidden.1"])
    features = student.get_submodule(STUDENT_TAP)(inputs.flatten(1))
    assert torch.equal(answers.features[STUDENT_TAP], features)
    assert torch.equal(answers.features["hidden.1"], student.get_submodule("hidden.1")(features))
    assert torch.equal(answers.logits, student(inputs))
    assert answers.features[STUDENT_TAP].requires_grad
    assert not any(module._forward_hooks for module in student.modules())


def test_no_hook_stays_where_the_model_fails(student):
    with pytest.raises(RuntimeError):
        answers_of(student, torch.zeros(2, 3), [STUDENT_TAP])
    assert not any(module._forward_hooks for module in student.modules())


def test_rows_cut_logits_and_features(student, digits):
    answers = answers_of(student, digits[0].inputs[:6], [STUDENT_TAP])
    rows = torch.tensor([4, 0])
    cut = answers[rows]
    assert (len(answers), len(cut)) == (6, 2)
    assert torch.equal(cut.logits, answers.logits[rows])
    assert torch.equal(cut.features[STUDENT_TAP], answers.features[STUDENT_TAP][rows])


def test_taught_answers_are_those_of_whole_batches_in_eval_mode(teacher, digits):
    inputs = digits[0].inputs[:50]
    teacher.train()
    found = taught_answers(teacher, inputs, [TEACHER_TAP], batch_size=7)
    assert teacher.training
    whole = answers_of(teacher.eval(), inputs, [TEACHER_TAP])
    torch.testing.assert_close(found.logits, whole.logits)
    torch.testing.assert_close(found.features[TEACHER_TAP], whole.features[TEACHER_TAP])
    assert not found.features[TEACHER_TAP].requires_grad


def test_a_loss_of_features_trains(student, teacher, digits):
    public, validation = digits
    before = distance(student, teacher, validation.inputs)
    distil_on_public(
        student,
        teacher_answers(teacher, Hints()),
        public,
        steps=150,
        batch_size=32,
        learning_rate=5e-3,
        weight_decay=0.0,
        loss=Hints(),
        augment=AugmentOptions(),
        seed=0,
    )
    assert distance(student, teacher, validation.inputs) < before / 4


def test_example_losses_are_those_of_the_rows_asked_for(student, teacher, digits):
    """A client asks the teacher once, and training takes rows of what it said."""
    public, _ = digits
    taught = taught_answers(teacher, public.inputs, Hints.teacher_taps)
    losses = TaughtExamples(Hints(), public.inputs, public.labels, taught)
    whole = losses(student, torch.arange(len(public)))
    rows = torch.tensor([200, 3, 3, 17])
    torch.testing.assert_close(losses(student, rows), whole[rows])
    assert losses(student, rows[:0]).shape == (0,)


def test_a_loss_of_ones_own_is_named_by_its_path():
    loss = build_loss(LossOptions(f"{__name__}.build_hints"))
    assert isinstance(loss, Hints)
    with pytest.raises(UsageError, match=f"distill.loss={__name__}.build_none: cannot import"):
        build_loss(LossOptions(f"{__name__}.build_none"))
    with pytest.raises(UsageError, match=r"distill.loss=warm: must be one of attention, dec"):
        build_loss(LossOptions("warm"))


def test_losses_that_separate_by_row_pass():
    for loss in (Hints(), build_loss(LossOptions("soft")), build_loss(LossOptions("hard"))):
        check_separable(loss)


@pytest.mark.parametrize(
    "loss",
    [Centred(), CentredTeacher(), build_loss(LossOptions("relational"))],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_that_looks_across_rows_is_refused(loss):
    with pytest.raises(UsageError, match=r"distill.loss: .*other rows of the batch") as caught:
        check_separable(loss)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^distill.loss=mine: .*privacy=none"):
        check_separable(loss, "distill.loss=mine")


def test_an_unknown_tap_is_one_line(student, teacher):
    check_taps(Hints(), student, teacher)
    with pytest.raises(UsageError, match=r"^distill.loss: taps 'hidden.2', which the teacher do"):
        check_taps(Hints(), student, nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"^distill.loss: taps 'hidden.0', which the student do"):
        check_taps(Hints(), nn.Linear(2, 2), teacher)


def test_losses_of_logits_build_without_networks_and_tap_nothing():
    for name in set(LOSSES.names()) - {"attention", "hints", "relations"}:
        loss = build_loss(LossOptions(name))
        assert not [*loss.student_taps, *loss.teacher_taps]


class Viewing(nn.Module):
    """Flattens by a view, which bears one layout only."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.convolution(inputs).view(len(inputs), -1))


class Flattening(Viewing):
    """The same network, which bears any layout."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.convolution(inputs).flatten(1))


@pytest.mark.parametrize("kind", [Viewing, Flattening])
def test_the_layout_that_answers_faster_changes_no_answer(kind, digits):
    model, inputs = kind(), digits[0].inputs
    before = copy.deepcopy(model.state_dict())
    wanted = taught_answers(model, inputs).logits
    assert in_channels_last(model, inputs[:2]) is model
    torch.testing.assert_close(taught_answers(model, inputs).logits, wanted)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    channels_last = model.convolution(inputs).is_contiguous(memory_format=torch.channels_last)
    assert channels_last == (kind is Flattening)
