"""What a client works with: the teacher it received, what that says, and the part that trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor, nn

from fedlite.base.tensors import save_tensors, state_sha256
from fedlite.distill.answers import Answers, taught_answers
from fedlite.distill.loss import Loss
from fedlite.distill.options import LossOptions, TeacherOptions
from fedlite.federation import workbench
from fedlite.federation.messages import ARRAYS, CONFIG, TEACHER, TRAIN, to_arrays, to_state
from fedlite.federation.sealed import FAILED
from fedlite.federation.transport.grid import FIRST_NODE_ID
from fedlite.models.options import ModelOptions
from fedlite.privacy.ledger_folder import read_ledgers
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.federate import client_options
from tests.privacy.world import ClientWorld

DETERMINISTIC = ("privacy.randomness=deterministic", "distill.alpha=0.5")


@dataclass(frozen=True)
class Hint:
    """Cross-entropy, and the distance between two tapped features' means over their units."""

    student_taps: Sequence[str]
    teacher_taps: Sequence[str]
    weight: float = 1.0

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        (own,), (taught,) = student.features.values(), teacher.features.values()
        gap = own.flatten(1).mean(dim=1) - taught.flatten(1).mean(dim=1)
        true = F.cross_entropy(student.logits, labels, reduction="none")
        return true + self.weight * gap.square()


def hint(options: LossOptions) -> Loss:
    """``distill.loss`` by its path; the weight of the labels is the option."""
    return Hint(("hidden",), ("classifier.2",), weight=100 * options.alpha)


def hint_of_the_front_end_for_nothing(options: LossOptions) -> Loss:
    return Hint(("scattering",), ("classifier.2",), weight=0.0)


def hint_of_nowhere(options: LossOptions) -> Loss:
    return Hint(("hidden",), ("classifier.99",))


def hint_of_no_student(options: LossOptions) -> Loss:
    return Hint(("hiden",), ("classifier.2",))


@pytest.fixture
def world(tiny_config: Callable[..., Config], tmp_path: Path) -> Callable[..., ClientWorld]:
    """Clients with a small student, in deterministic mode."""

    def build(*overrides: str) -> ClientWorld:
        return ClientWorld(tiny_config("student=mlp", *DETERMINISTIC, *overrides), tmp_path)

    return build


def student(made: ClientWorld, server_round: int = 1) -> dict[str, Tensor]:
    return to_state(made.train(server_round).content.array_records[ARRAYS])


# --- the teacher ----------------------------------------------------------------------------


def test_a_teacher_of_another_scale_answers_on_clients_as_on_the_server(
    world: Callable[..., ClientWorld],
) -> None:
    made = world("teacher.normalise=signed")
    sent = made.teacher.state_dict()
    assert {"input_factor", "input_shift"} <= set(sent)
    data = splits_of(made.config).client(0)
    here = taught_answers(made.teacher, data.inputs).logits
    bench = workbench.open_workbench(
        client_options(made.config, splits_of(made.config).task).to_json(), made.client().folder
    )
    sha256 = state_sha256(sent)
    workbench.store_teacher(bench.folder, sent, sha256)
    assert torch.allclose(bench.teacher_answers(data, sha256).logits, here, atol=1e-4)


def test_a_teacher_that_is_not_what_was_announced_is_refused_and_not_kept(
    world: Callable[..., ClientWorld],
) -> None:
    made = world()
    other = {name: value + 1 for name, value in made.teacher.state_dict().items()}
    announced = ConfigRecord({"sha256": "0" * 64})
    content = RecordDict({ARRAYS: to_arrays(other), CONFIG: announced})
    (reply,) = made.grid.send_and_receive([Message(content, FIRST_NODE_ID, TEACHER)])
    assert reply.error.reason == FAILED
    assert "do not have the announced hash" in made.grid.failure()
    assert not list(made.client().folder.glob(f"teacher-{'0' * 64}*"))
    held = made.grid.contexts[FIRST_NODE_ID].state.config_records["teacher"]["sha256"]
    assert held == made.teacher_sha256, "the client still says which one it holds"


def test_clients_that_are_sent_one_teacher_together_each_take_or_refuse_it(
    world: Callable[..., ClientWorld],
) -> None:
    made = world()
    nodes = list(made.grid.contexts)[:3]
    state = {name: value + 1 for name, value in made.teacher.state_dict().items()}
    for sha256, taken in (("0" * 64, False), (state_sha256(state), True)):
        config = ConfigRecord({"sha256": sha256})
        content = RecordDict({ARRAYS: to_arrays(state), CONFIG: config})
        replies = made.grid.send_and_receive([Message(content, node, TEACHER) for node in nodes])
        assert [reply.has_error() for reply in replies] == [not taken] * 3
        held = [made.grid.contexts[node].state.config_records["teacher"] for node in nodes]
        assert [one["sha256"] == sha256 for one in held] == [taken] * 3
        assert (made.directory / "nodes" / f"teacher-{sha256}.pt").exists() is taken


def test_a_stored_teacher_that_was_exchanged_is_noticed_before_anything_is_charged(
    world: Callable[..., ClientWorld],
) -> None:
    made = world()
    (path,) = (made.directory / "nodes").glob("teacher-*.pt")
    save_tensors(path, {name: value + 1 for name, value in made.teacher.state_dict().items()})
    made.grid.send_and_receive([made.request(1)])
    assert "the stored copy does not have its hash" in made.grid.failure()
    assert made.ledger().entries() == []


def test_a_teacher_is_stored_once_and_as_it_came(world: Callable[..., ClientWorld]) -> None:
    made = world()
    bench = made.client().workbench
    assert [path.name for path in bench.folder.iterdir()] == [f"teacher-{made.teacher_sha256}.pt"]
    held = bench._teacher(made.teacher_sha256)
    assert state_sha256(held.state_dict()) == made.teacher_sha256
    assert not held.training
    assert not any(parameter.requires_grad for parameter in held.parameters())


def test_a_teacher_is_asked_once_about_the_same_examples(
    world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world()
    seen: list[int] = []
    kind = type(made.teacher)
    forward = kind.forward

    def counting(self: nn.Module, inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        answered: Tensor = forward(self, inputs)
        return answered

    monkeypatch.setattr(kind, "forward", counting)
    student(made, 1)
    tried = sum(seen) - len(made.splits.client(0))  # made-up examples, of the student's check
    assert tried > 0
    for server_round in (2, 3):
        student(made, server_round)
    assert sum(seen) == tried + len(made.splits.client(0))


# --- losses that look inside ----------------------------------------------------------------


def test_a_loss_that_taps_student_and_teacher_trains_through_real_messages(
    world: Callable[..., ClientWorld],
) -> None:
    start = world().student.state_dict()
    plain = student(world("distill.alpha=1"))
    loss = f"distill.loss={__name__}.hint"
    tapped, heavier = student(world(loss)), student(world(loss, "distill.alpha=1"))
    for other in (plain, heavier):
        assert not all(torch.equal(tapped[name], value) for name, value in other.items())
    assert all(value.isfinite().all() for value in tapped.values())
    assert any(not torch.equal(tapped[name], value) for name, value in start.items())


@pytest.mark.parametrize("loss", ["attention", "hints", "relations"])
def test_what_looks_inside_moves_a_student_through_real_messages(
    loss: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The proof before the charge holds both engines to autograd, through the taps."""
    config = tiny_config("student=cnn", *DETERMINISTIC, f"distill={loss}")
    if loss == "relations":
        kwargs = {"width": 16, "heads": 2, "depth": 1}
        named = ("transformer", "fedlite.models.transformer.Transformer", kwargs)
        networks = {"teacher": TeacherOptions(*named), "student": ModelOptions(*named)}
        config = replace(config, **networks)
    moved = [
        student(
            ClientWorld(
                replace(config, distill=replace(config.distill, weight=weight)),
                tmp_path / str(weight),
            )
        )
        for weight in (0.0, 9.0)
    ]
    assert not all(torch.equal(moved[0][name], value) for name, value in moved[1].items())
    assert all(value.isfinite().all() for value in moved[1].values())


def test_a_tapped_student_with_a_fixed_front_end_trains_as_on_its_cached_features(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Cached features have no modules to tap: what is tapped is run whole, to the same student."""
    options = ("student=scattering", "student.kwargs.orientations=2", "distill.alpha=1")
    config = tiny_config(*DETERMINISTIC, *options)
    cached = student(ClientWorld(config, tmp_path / "cached"))
    distill = replace(config.distill, loss=f"{__name__}.hint_of_the_front_end_for_nothing")
    tapped = student(ClientWorld(replace(config, distill=distill), tmp_path / "tapped"))
    assert list(tapped) == list(cached)
    for name, value in cached.items():
        torch.testing.assert_close(tapped[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("hint_of_nowhere", "taps 'classifier.99', which the teacher does not have"),
        ("hint_of_no_student", "taps 'hiden', which the student does not have"),
    ],
)
def test_a_tap_that_is_not_there_is_one_line_and_costs_nothing(
    loss: str, words: str, world: Callable[..., ClientWorld], tmp_path: Path
) -> None:
    made = world(f"distill.loss={__name__}.{loss}")
    made.grid.send_and_receive([made.request(1)])
    assert f"distill.loss: {words}" in made.grid.failure()
    assert "\n" not in made.grid.failure()
    assert made.ledger().entries() == []


# --- what no private training may use -------------------------------------------------------


class Normed(nn.Sequential):
    """A student with batch statistics."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        size = int(torch.tensor(input_shape).prod())
        super().__init__(nn.Flatten(), nn.Linear(size, num_classes), nn.BatchNorm1d(num_classes))


def test_a_client_refuses_a_student_with_batch_statistics_whatever_its_server_let_pass(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    own = ("student=custom", f"student.module={__name__}.Normed")
    for privacy in ("example", "client", "none"):
        made = ClientWorld(tiny_config(*own, f"privacy={privacy}"), tmp_path / privacy)
        made.grid.send_and_receive([made.request(1)])
        assert "BatchNorm1d" in made.grid.failure()
        ledgers = read_ledgers(tmp_path / privacy / "ledgers")
        assert bool(ledgers) == (privacy != "none")
        assert not any(ledgers.values()), "charged"


def test_a_network_that_cannot_be_built_is_one_line(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    made = ClientWorld(tiny_config("student=mlp"), tmp_path)
    for context in made.grid.contexts.values():
        text = str(context.run_config["client-options"])
        context.run_config["client-options"] = text.replace("models.mlp", "models.nowhere")
    made.grid.send_and_receive([made.request(1)])
    assert "module=fedlite.models.nowhere.MLP: cannot import" in made.grid.failure()


def test_a_worker_need_not_prove_again_what_its_parent_has(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "_proven_elsewhere", set())
    config = tiny_config("student=mlp")
    options = client_options(config, splits_of(config).task).to_json()
    asked: list[str] = []
    monkeypatch.setattr(workbench, "check_student", lambda *given: asked.append("student"))
    workbench.open_workbench(options, tmp_path / "parent")
    assert asked == ["student"]
    assert options in workbench.proven_options()
    workbench.open_workbench(options, tmp_path / "another run here")
    assert asked == ["student"] * 2, "only for those that are told"
    workbench.take_as_proven([options])
    assert workbench.open_workbench(options, tmp_path / "worker").options.to_json() == options
    assert asked == ["student"] * 2


def test_a_cohort_is_asked_about_in_full_batches_and_each_has_its_own_answers(
    world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world("federation.num_clients=20")
    clients = [one.client(number).data for number in range(20)]
    bench, sha256 = one.client().workbench, one.teacher_sha256
    alone = [bench.teacher_answers(data, sha256) for data in clients]
    bench._answers.clear()
    sizes: list[int] = []
    real = taught_answers

    def spy(model: nn.Module, inputs: Tensor, *options: Any) -> Answers:
        sizes.append(len(inputs))
        return real(model, inputs, *options)

    monkeypatch.setattr(workbench, "taught_answers", spy)
    bench.ask_teacher(clients, sha256)
    together = [bench.teacher_answers(data, sha256) for data in clients]
    assert sizes == [sum(map(len, clients))]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found.logits, expected.logits)


def test_a_client_on_whose_examples_the_teacher_fails_fails_alone_and_uncharged(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ClientWorld(tiny_config("student=mlp", "federation.num_clients=20"), tmp_path)
    data = made.client(3).data
    made.simulation._data[3] = replace(data, inputs=data.inputs + torch.nan)
    real = taught_answers

    def fails_on_nan(model: nn.Module, inputs: Tensor, *options: Any) -> Answers:
        if not inputs.isfinite().all():
            raise ValueError("not a number")
        return real(model, inputs, *options)

    monkeypatch.setattr(workbench, "taught_answers", fails_on_nan)
    content = made.request(1).content
    messages = [Message(content, node, TRAIN) for node in made.grid.get_node_ids()]
    replies = made.grid.send_and_receive(messages)
    assert [number for number, reply in enumerate(replies) if reply.has_error()] == [3]
    assert [len(made.ledger(number).entries()) for number in (2, 3, 4)] == [1, 0, 1]
