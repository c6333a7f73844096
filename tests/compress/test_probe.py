"""Students that cannot be cut or exported are refused before their budget is spent."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.compress.options import CompressOptions
from fedlite.compress.probe import check_cut, check_export, check_loads
from fedlite.models.options import ModelOptions
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.privacy import students
from tests.privacy.students import CLASSES, SHAPE, Student
from tests.tasks import shaped

TASK = shaped(SHAPE, CLASSES)
CUT = CompressOptions(ratio=0.3)
WHOLE = CompressOptions(ratio=0.0)


class ByValue(Student):
    """What it computes hangs on the numbers: no graph holds it."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        nn.Module.__init__(self)
        size = 1
        for side in input_shape:
            size *= side
        self.first, self.head = nn.Linear(size, 12), nn.Linear(12, num_classes)

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden if bool((hidden.detach() < 2).all()) else hidden / 2


@pytest.mark.parametrize(
    ("student", "why"),
    [
        (students.PrivateLSTM, r"layer 'first' \(DPLSTM\) is one of them; use compress\.ratio=0"),
        (students.PrivateAttention, r"no layer can be cut .*use compress\.ratio=0"),
        (students.Tied, r"no layer can be cut \('first': tied weights .* would come apart"),
    ],
)
def test_a_student_that_cannot_be_cut_is_one_line_with_the_option(
    student: type[Student], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        check_cut(student(), TASK, CUT)
    check_cut(student(), TASK, WHOLE)


def test_a_ratio_that_removes_no_channel_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"compress\.ratio=0\.1 .*removes no channel"):
        check_cut(Student(), TASK, CompressOptions(ratio=0.1))
    with pytest.raises(UsageError, match=r"compress\.ratio=0\.3: no layer can be cut \('head'"):
        check_cut(students.Transposed(), TASK, CUT)


def test_what_can_be_cut_can_be_exported_after_it() -> None:
    whole = Student()
    cut = check_cut(whole, TASK, CUT)
    sizes = [sum(one.numel() for one in model.parameters()) for model in (cut, whole)]
    assert sizes[0] < sizes[1]
    check_export(cut, TASK, CUT)


class Sized(Student):
    """Keeps a size beside its layers, so that it bears a cut of itself and no file of it."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        super().__init__(input_shape, num_classes)
        self.scale = nn.Parameter(torch.ones(12))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * self.scale[: self.first.out_features]


def test_a_cut_student_that_its_class_cannot_load_is_one_line() -> None:
    options = ModelOptions("mine", f"{__name__}.Sized")
    cut = check_cut(Student(), TASK, CUT)
    with pytest.raises(UsageError, match=r"cannot be loaded from a file again .*does not fit"):
        check_loads(cut, options, TASK)
    check_loads(cut, ModelOptions("mine", "tests.privacy.students.Student"), TASK)


@pytest.mark.parametrize("student", [ByValue, students.ExpandedPositions])
def test_a_student_without_a_graph_for_any_batch_is_one_line(student: type[Student]) -> None:
    with pytest.raises(UsageError, match=r"student\.module: \w+ cannot be deployed") as raised:
        check_export(student(), TASK, WHOLE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("student=scattering", "student.kwargs.orientations=2"), "use .*compress.ratio=0"),
        (("student=custom", f"student.module={__name__}.ByValue"), "cannot be deployed"),
    ],
)
def test_a_run_is_refused_before_any_training(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    private = ("privacy=client", "federation.sampling=bernoulli")
    line = refusal(capsys, 2, "simulate", *TINY, *options, *private, f"run.dir={folder}")
    assert all(part in line for part in words.split(".*")), line
    assert not list(folder.rglob("*.pt"))
    assert not list(folder.rglob("*.ledger*"))
