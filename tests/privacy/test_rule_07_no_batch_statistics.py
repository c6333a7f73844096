"""Rule 7: no batch statistics, and no buffer that training changes."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.distill.answers import Answers, answers_of
from fedlite.federation import training, workbench
from fedlite.privacy.clipping import ExampleLosses
from fedlite.privacy.probe import check_private_model
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld
from tests.tasks import shaped


def net(*middle: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), *middle, nn.Flatten(), nn.Linear(4 * 36, 10)]
    return nn.Sequential(*layers)


class WithBuffer(nn.Module):
    """A student that keeps a constant, as networks with fixed filters do."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(int(torch.tensor(input_shape).prod()), num_classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs - self.mean)
        return logits


# --- the checks -----------------------------------------------------------------------------


def check_rows_and_buffers_are_left_alone(model: nn.Module) -> None:
    """In training mode, another row 0 changes no other output, and no buffer moves."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    rows = torch.randn((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    changed = rows.clone()
    changed[0] *= 9
    model.train()
    outputs = []
    for inputs in (rows, changed):
        torch.manual_seed(0)  # the same dropout in both
        outputs.append(model(inputs).detach())
    assert torch.allclose(outputs[0][1:], outputs[1][1:], atol=1e-5), "rows are mixed"
    for name, value in model.named_buffers():
        assert torch.equal(value, buffers[name]), f"buffer {name} follows the data"


def check_training_changes_no_buffer(world: ClientWorld) -> None:
    """Of the student in what is sent, and of the teacher on the client."""
    sent = world.train(1).content.array_records["arrays"]
    buffers = dict(world.student.named_buffers())
    assert buffers
    for name, buffer in buffers.items():
        assert torch.equal(torch.from_numpy(sent[name].numpy()), buffer), "a student's buffer moved"
    held = world.client().workbench._teacher(world.teacher_sha256)
    taught = dict(held.named_buffers())
    assert taught
    for name, buffer in world.teacher.named_buffers():
        assert torch.equal(buffer, taught[name]), "a teacher's buffer moved"


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.Tanh(), nn.Dropout(0.5)], ids=str)
def test_separable_layers_pass_and_the_probe_leaves_no_trace(layer: nn.Module) -> None:
    model = net(layer)
    check_rows_and_buffers_are_left_alone(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_private_model(model, shaped((1, 8, 8)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


OWN_STUDENT = ("student=custom", f"student.module={__name__}.WithBuffer")


@pytest.mark.usefixtures("every_engine")
def test_training_changes_no_buffer(client_world: Callable[..., ClientWorld]) -> None:
    check_training_changes_no_buffer(client_world(*OWN_STUDENT))


@pytest.mark.parametrize("student", ["cnn", "mobilenet", "mlp", "staged", "transformer"])
def test_every_student_passes(student: str, client_world: Callable[..., ClientWorld]) -> None:
    world = client_world(f"student={student}")
    check_rows_and_buffers_are_left_alone(world.student)
    check_private_model(world.student, shaped((1, 8, 8)))


# --- planted bugs ---------------------------------------------------------------------------


class Centred(nn.Module):
    """Mixes rows without being any known layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(dim=0)


class Counting(nn.Module):
    """A buffer that follows the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += inputs.mean()
        return inputs


PLANTED_LAYERS = {
    "batch": nn.BatchNorm2d(4),
    "no affine": nn.BatchNorm2d(4, affine=False),
    "no tracking": nn.BatchNorm2d(4, track_running_stats=False),
    "frozen": nn.BatchNorm2d(4).requires_grad_(requires_grad=False),
    "instance": nn.InstanceNorm2d(4, track_running_stats=True),
    "centred": Centred(),
    "counting": Counting(),
}


@pytest.mark.parametrize("layer", PLANTED_LAYERS.values(), ids=PLANTED_LAYERS)
def test_planted_layers_are_caught_and_refused(layer: nn.Module) -> None:
    with caught("rows are mixed|follows the data"):
        check_rows_and_buffers_are_left_alone(net(layer))
    with pytest.raises(UsageError, match="student"):
        check_private_model(net(layer), shaped((1, 8, 8)))


def test_synchronised_batch_norm_is_refused() -> None:
    """It does not run on a CPU at all, so only the guard can be asked."""
    with pytest.raises(UsageError, match="SyncBatchNorm"):
        check_private_model(net(nn.SyncBatchNorm(4)), shaped((1, 8, 8)))


def statistics_estimated_again(patch: pytest.MonkeyPatch) -> None:
    """After the noise, from the private examples."""
    real = training.train_steps

    def train(model: nn.Module, losses: ExampleLosses, examples: int, **options: Any) -> int:
        steps = real(model, losses, examples, **options)
        with torch.no_grad():
            model.mean += losses(model, torch.arange(examples)).mean()  # type: ignore[operator]
        return steps

    patch.setattr(training, "train_steps", train)


def teacher_in_training_mode(patch: pytest.MonkeyPatch) -> None:
    def answers(model: nn.Module, inputs: Tensor, taps: Sequence[str] = ()) -> Answers:
        with torch.no_grad():
            return answers_of(model.train(), inputs, taps)

    patch.setattr(workbench, "taught_answers", answers)


@pytest.mark.parametrize(
    ("plant", "because"),
    [(statistics_estimated_again, "a student's"), (teacher_in_training_mode, "a teacher's")],
)
def test_planted_training_is_caught(
    plant: Plant,
    because: str,
    client_world: Callable[..., ClientWorld],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = client_world(*OWN_STUDENT)
    plant(monkeypatch)
    with caught(f"{because} buffer moved"):
        check_training_changes_no_buffer(world)
