"""Clients whose networks are on another device than their messages, ledgers and noise.

A second device stands in for a GPU (:mod:`tests.second_device`): whatever is not moved fails.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.federation.device import COMPUTE
from fedlite.federation.messages import ARRAYS, State, to_state
from fedlite.federation.training import train_cohort
from fedlite.federation.workbench import TrainedPart
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.runs.config import Config
from tests.federation.test_training import NOISED, ONE_STEP, SIZES, cohort_of, linear
from tests.privacy.ward import OPTIONS, Ward, patients, write_examples
from tests.privacy.world import ClientWorld
from tests.second_device import SECOND, Second, second_device

__all__ = ["second_device"]


class Dropping(nn.Sequential):
    """A student that draws in training."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(input_shape[0], 4, 3),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.LazyLinear(num_classes),
        )
        self(torch.zeros(1, *input_shape))


class Hungry(nn.Sequential):
    """A student for which the device's memory does not suffice, in training with gradients."""

    full = False

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.full and self.training and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        answer: Tensor = super().forward(inputs)
        return answer


def custom(network: type[nn.Module]) -> tuple[str, ...]:
    return ("student=custom", f"student.module={network.__module__}.{network.__name__}")


def states_of(config: Config, directory: Path, device: str, client_id: int = 0) -> list[State]:
    """What a client answers in two rounds, its networks on ``device``."""
    directory.mkdir()
    before = Second.operations
    world = ClientWorld(config, directory, {COMPUTE: device})
    found = []
    for server_round in (1, 2):
        reply = world.train(server_round, client_id)
        found.append(to_state(reply.content.array_records[ARRAYS]))
    assert (Second.operations > before) == (device == "cuda")
    return found


def assert_close(found: State, expected: State) -> None:
    """Equal but for rounding: the second device takes products in another order."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.device == found[name].device == torch.device("cpu")
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


# --- the same work, there and here ----------------------------------------------------------


@pytest.mark.usefixtures("second_device")
@pytest.mark.parametrize(
    "options",
    [
        ("student=mlp",),
        ("student=cnn",),
        ("student=mobilenet",),
        ("student=scattering",),
        ("student=staged",),
        ("student=staged_small", "privacy.gradients=opacus"),
        ("student=mlp", "privacy=none", "federation.local_steps=3", "federation.momentum=0.5"),
        ("student=mlp", "federation.local_steps=2", "federation=fedprox"),
        custom(Dropping),
        (*custom(Dropping), "privacy.gradients=opacus"),
    ],
    ids=" ".join,
)
def test_a_client_answers_what_it_answers_on_the_processor(
    options: tuple[str, ...], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("privacy.randomness=deterministic", *options)
    there, here = (states_of(config, tmp_path / name, name) for name in ("cuda", "cpu"))
    for found, expected in zip(there, here, strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("draws", [False, True], ids=["together", "dropout"])
def test_a_cohort_s_step_is_what_it_is_on_the_processor(draws: bool) -> None:
    torch.manual_seed(0)
    middle = nn.Dropout(0.5) if draws else nn.Tanh()
    student = nn.Sequential(linear(), middle, nn.GroupNorm(2, 10), nn.Linear(10, 10))
    work = replace(ONE_STEP, gradients="bookkeeping")

    def answers(student: nn.Sequential) -> list[State]:
        randomness = [DeterministicRandomness(number) for number in range(len(SIZES))]
        parts = [there(part, device_of(student)) for part in cohort_of(student)]
        with train_cohort(student, parts, work, NOISED, randomness) as state_of:
            found = [state_of(number) for number in range(len(SIZES))]
        return [{name: value.cpu() for name, value in one.items()} for one in found]

    def there(part: TrainedPart, device: torch.device) -> TrainedPart:
        losses = part.losses
        taught = replace(losses.taught, logits=losses.taught.logits.to(device))
        moved = replace(
            losses,
            inputs=losses.inputs.to(device),
            labels=losses.labels.to(device),
            taught=taught,
        )
        return part._replace(losses=moved)

    other = copy.deepcopy(student).to(SECOND)  # of which nobody knows that it draws
    for found, one in zip(answers(other), answers(student), strict=True):
        assert_close(found, one)


@pytest.mark.usefixtures("second_device")
def test_clients_of_one_process_train_together_there(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that has no examples; secret noise, each its own."""
    world = ClientWorld(tiny_config("student=mlp"), tmp_path, {COMPUTE: "cuda"})
    cohorts: list[int] = []

    def counted(student: nn.Module, parts: list[TrainedPart], *rest: object) -> object:
        cohorts.append(len(parts))
        return train_cohort(student, parts, *rest)

    monkeypatch.setattr("fedlite.federation.client_app.train_cohort", counted)
    first = world.request(1)
    batch = [world.request(1, client_id) for client_id in range(4)]
    for message in batch:
        message.content = first.content
    replies = world.grid.send_and_receive(batch)
    assert not any(reply.has_error() for reply in replies), world.grid.failure()
    assert cohorts == [4]
    states = [to_state(reply.content.array_records[ARRAYS]) for reply in replies]
    assert all(value.isfinite().all() for state in states for value in state.values())
    name = next(iter(states[0]))
    assert not torch.equal(states[0][name], states[1][name])


# --- a device and its owner -----------------------------------------------------------------


def ward(folder: Path, **node: str) -> Ward:
    folder.mkdir()
    write_examples(folder / "own.npz", *patients(20))
    made = Ward(folder, node=node)
    assert not made.ask(made.teach()).has_error()
    return made


@pytest.mark.usefixtures("second_device")
def test_a_device_s_owner_alone_decides_where_it_computes(tmp_path: Path) -> None:
    """Where the node config says nothing, on the processor, GPU or not; no server is asked."""
    before = Second.operations
    made = ward(tmp_path / "silent")
    assert not made.ask(made.request()).has_error()
    assert Second.operations == before
    made = ward(tmp_path / "cuda", device="cuda")
    assert not made.ask(made.request()).has_error()
    assert Second.operations > before
    assert not {"device", "compute"} & set(OPTIONS.to_json().split('"'))


def test_a_device_whose_gpu_is_gone_trains_on_its_processor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made = ward(tmp_path / "gone", device="cuda")
    with caplog.at_level(logging.WARNING):
        reply = made.ask(made.request())
    assert not reply.has_error()
    assert "torch finds no GPU; this client trains on the processor" in caplog.text
    assert len(charges_of(made)) == 1


def test_a_device_config_that_means_nothing_costs_nothing(tmp_path: Path) -> None:
    made = ward(tmp_path / "odd", device="gpu")
    assert made.ask(made.request()).has_error()
    assert charges_of(made) == []


def charges_of(made: Ward) -> list[str]:
    """The lines of its ledger after the one that begins it."""
    lines = (made.folder / "ward-7.ledger").read_text().splitlines()
    return lines[1:]


# --- a full GPU -----------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
def test_a_full_gpu_fails_the_client_in_one_line_and_is_charged_once(
    together: bool,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = ClientWorld(tiny_config(*custom(Hungry)), tmp_path)
    world.train(1)
    monkeypatch.setattr(Hungry, "full", True)
    batch = [world.request(2, client_id) for client_id in range(1 + together)]
    for message in batch:
        message.content = batch[0].content
    replies = world.grid.send_and_receive(batch)
    assert [reply.error.reason for reply in replies] == ["failed"] * len(batch)
    assert world.grid.failure().startswith("the GPU's memory is full; use fewer engine.num_workers")
    assert len(world.ledger().entries()) == 2
    monkeypatch.setattr(Hungry, "full", False)
    world.train(3)
    assert len(world.ledger().entries()) == 3
