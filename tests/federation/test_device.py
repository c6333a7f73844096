"""A device: the policy, the data and the ledger of its owner, which no server decides."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message

from fedlite.base.errors import UsageError
from fedlite.data.types import ClientData, Task
from fedlite.distill.answers import taught_answers
from fedlite.federation import client, device
from fedlite.federation.device import Device, open_ledger, read_data
from fedlite.federation.messages import ARRAYS, State, to_state
from fedlite.federation.simulation import SIMULATION
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.policy import load_policy
from fedlite.runs.config import Config
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, begun, simulation_options
from tests.tasks import shaped

POLICY = "data_set: ward-7\nmax_epsilon: 50\nrandomness: deterministic\n"
OPTIONS = ("student=mlp", "privacy.randomness=deterministic", "privacy.accountant=rdp")


def raw(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as they come from a scanner, and labels."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 17, (examples, 1, 8, 8), dtype=np.uint8)
    return inputs, rng.integers(0, 10, examples)


def write_archive(path: Path, examples: int = 40, seed: int = 0) -> None:
    inputs, labels = raw(examples, seed)
    np.savez(path, inputs=inputs, labels=labels)


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A device's folder: a policy and an archive."""
    folder = tmp_path / "ward"
    folder.mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    write_archive(folder / "own.npz")
    begun(Ledger(folder / "ward-7.ledger", "ward-7"))
    return folder


@pytest.fixture
def world(ward: Path, tiny_config: Callable[..., Config], tmp_path: Path) -> ClientWorld:
    """Devices of which the server knows nothing but that they are there."""
    node = {"policy": str(ward / "policy.yaml"), "data": "own.npz"}
    return ClientWorld(tiny_config(*OPTIONS), tmp_path / "server", node, simulated=False)


def answer(world: ClientWorld, server_round: int = 1) -> Message:
    """The reply of client 0, an error included."""
    (reply,) = world.grid.send_and_receive([world.request(server_round)])
    return reply


def student(reply: Message) -> State:
    assert not reply.has_error(), reply.error.reason
    return to_state(reply.content.array_records[ARRAYS])


def same(one: State, other: State) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


def charges(folder: Path) -> int:
    return len(Ledger(folder / "ward-7.ledger", "ward-7").entries())


def prepared(task: Task, examples: int, seed: int = 0) -> ClientData:
    inputs, labels = raw(examples, seed)
    return ClientData(0, task.prepare(torch.from_numpy(inputs)), torch.from_numpy(labels))


# --- what a node config says ----------------------------------------------------------------


def test_a_node_without_a_policy_is_no_device() -> None:
    assert Device.of({"partition-id": 3, "num-partitions": 4}) is None


def test_data_without_a_policy_are_refused_and_not_passed_over() -> None:
    with pytest.raises(UsageError, match=r"^policy: missing in the node config"):
        Device.of({"partition-id": 3, "data": "own.npz"})


def test_paths_are_counted_from_the_policy_s_folder(
    ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    node = {"policy": "ward/policy.yaml", "data": "own.npz", "ledger-dir": "kept"}
    found = Device.of(node)
    assert found is not None
    assert found.data == ward / "own.npz"
    assert found.ledger.path == ward / "kept" / "ward-7.ledger"
    beside = Device.of({"policy": "ward/policy.yaml"})
    assert beside is not None
    assert beside.data is None
    assert beside.ledger.path == ward / "ward-7.ledger"


def test_a_device_without_data_needs_a_simulation_to_have_any(
    ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    for node in ({"policy": str(ward / "policy.yaml")}, {}):
        with caught(r"client 0: data: missing in the node config; give the device's own examples"):
            ClientWorld(tiny_config(*OPTIONS), tmp_path, node, simulated=False)


# --- policy, then data, then ledger ---------------------------------------------------------


def test_the_policy_is_read_first_then_the_data_and_then_the_ledger_is_charged(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            order.append(name)
            return real(*args, **options)

        return noted

    monkeypatch.setattr(device, "load_policy", noting("policy", device.load_policy))
    monkeypatch.setattr(client, "read_data", noting("data", client.read_data))
    monkeypatch.setattr(Ledger, "charge", noting("ledger", Ledger.charge))
    student(answer(world))
    assert order == ["policy", "data", "ledger"]


def test_of_all_that_is_broken_the_first_is_told_and_nothing_is_charged(
    world: ClientWorld, ward: Path
) -> None:
    (ward / "policy.yaml").write_text("data_set: ward-7\n")
    (ward / "own.npz").write_bytes(b"?")
    (ward / "ward-7.ledger").write_text("?\n")
    assert "max_epsilon: missing" in answer(world).error.reason
    (ward / "policy.yaml").write_text(POLICY)
    assert "own.npz" in answer(world).error.reason
    write_archive(ward / "own.npz")
    assert "ward-7.ledger" in answer(world).error.reason
    (ward / "ward-7.ledger").unlink()
    begun(Ledger(ward / "ward-7.ledger", "ward-7"))
    student(answer(world))
    assert charges(ward) == 1


def test_a_policy_that_refuses_charges_nothing(world: ClientWorld, ward: Path) -> None:
    (ward / "policy.yaml").write_text(POLICY + "units: []\n")
    report = answer(world).content.config_records["report"]
    assert report["status"] == "refused"
    assert "allows no unit" in str(report["reason"])
    assert charges(ward) == 0


# --- nothing from the server ----------------------------------------------------------------


def check_the_owner_decides(world: ClientWorld, ward: Path, elsewhere: Path) -> None:
    """Whatever a server says of policy, data and ledger, all three are the owner's."""
    clean = student(answer(world))
    elsewhere.mkdir()
    (elsewhere / "policy.yaml").write_text("data_set: other\nmax_epsilon: 1000\n")
    write_archive(elsewhere / "other.npz", seed=9)
    hostile = replace(
        simulation_options(world.config, elsewhere),
        privacy=replace(world.config.privacy, policy=str(elsewhere / "policy.yaml")),
    )
    for context in world.grid.contexts.values():
        context.state.config_records.pop("reply-report")  # a restart: the reply is made again
        context.run_config |= {
            SIMULATION: hostile.to_json(),
            "policy": str(elsewhere / "policy.yaml"),
            "data": str(elsewhere / "other.npz"),
            "ledger-dir": str(elsewhere),
        }
        break
    assert same(student(answer(world)), clean), "the server chose the data"
    assert list(elsewhere.rglob("*.ledger")) == [], "the server chose the ledger"
    assert charges(ward) == 1
    (ward / "policy.yaml").write_text(POLICY + "units: [client]\n")
    reply = answer(world, server_round=2)
    assert reply.content.config_records["report"]["status"] == "refused", "the server's policy won"


def test_no_server_chooses_policy_data_or_ledger(
    world: ClientWorld, ward: Path, tmp_path: Path
) -> None:
    check_the_owner_decides(world, ward, tmp_path / "elsewhere")


def the_run_s_data(patch: pytest.MonkeyPatch) -> None:
    """A path in the run config goes before that of the node config."""
    real = client.read_data

    def read(path: Path, task: Task, client_id: int) -> ClientData:
        other = path.parent.parent / "elsewhere" / "other.npz"
        return real(other if other.exists() else path, task, client_id)

    patch.setattr(client, "read_data", read)


def the_run_s_ledger(patch: pytest.MonkeyPatch) -> None:
    """The ledger lies where the server says that simulated ones lie."""
    real = client.Client.of

    def of(context: Any) -> client.Client:
        found = real(context)
        if SIMULATION not in context.run_config:
            return found
        world = client.open_simulation(str(context.run_config[SIMULATION]))
        theirs = open_ledger(Path(world.options.ledger_dir), found.policy)
        return replace(found, ledger=begun(theirs))

    patch.setattr(client.Client, "of", of)


def the_run_s_policy(patch: pytest.MonkeyPatch) -> None:
    """The owner's rules hold until a server brings others, under the owner's data set id."""
    real = client.Client.of

    def of(context: Any) -> client.Client:
        found = real(context)
        if "policy" not in context.run_config:
            return found
        lenient = load_policy(Path(str(context.run_config["policy"])))
        theirs = replace(lenient, data_set="ward-7", randomness="deterministic")
        return replace(found, policy=theirs)

    patch.setattr(client.Client, "of", of)


@pytest.mark.parametrize(
    ("plant", "because"),
    [
        (the_run_s_data, "the server chose the data"),
        (the_run_s_ledger, "the server chose the ledger"),
        (the_run_s_policy, "the server's policy won"),
    ],
)
def test_planted_bugs_are_caught(
    plant: Plant,
    because: str,
    world: ClientWorld,
    ward: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    with caught(because):
        check_the_owner_decides(world, ward, tmp_path / "elsewhere")


# --- its own examples -----------------------------------------------------------------------


def test_a_device_trains_with_its_own_examples(
    world: ClientWorld, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The same bits as a simulated client that holds these examples."""
    simulated = ClientWorld(tiny_config(*OPTIONS), tmp_path / "simulated")
    simulated.simulation._data[0] = prepared(simulated.splits.task, 40)
    assert same(student(answer(world)), student(answer(simulated)))
    simulated.simulation._data[0] = prepared(simulated.splits.task, 40, seed=1)
    assert not same(student(answer(world, 2)), student(answer(simulated, 2)))


def test_examples_that_the_owner_exchanged_are_trained_with_from_the_next_round_on(
    world: ClientWorld, ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """What the teacher said of the old ones is not taken for what it says of the new ones."""
    student(answer(world))
    write_archive(ward / "own.npz", examples=90, seed=1)
    os.utime(ward / "own.npz", ns=(1, 1))  # a clock that is coarse or goes back tells enough
    simulated = ClientWorld(tiny_config(*OPTIONS), tmp_path / "simulated")
    simulated.simulation._data[0] = prepared(simulated.splits.task, 90, seed=1)
    assert same(student(answer(world, 2)), student(answer(simulated, 2)))
    held = world.client()
    taught = held.workbench.teacher_answers(held.data, world.teacher_sha256)
    assert len(taught) == 90
    assert torch.equal(taught.logits, taught_answers(world.teacher, held.data.inputs).logits)


INPUTS, LABELS = raw(23)
BROKEN: dict[str, dict[str, np.ndarray]] = {
    "another shape": {"inputs": INPUTS[:, :, :7], "labels": LABELS},
    "no channels": {"inputs": INPUTS[:, 0], "labels": LABELS},
    "nobody": {"inputs": INPUTS[:0], "labels": LABELS[:0]},
    "words": {"inputs": INPUTS.astype("U2"), "labels": LABELS},
    "fewer labels": {"inputs": INPUTS, "labels": LABELS[:-1]},
    "labels in columns": {"inputs": INPUTS, "labels": LABELS[:, None]},
    "half a class": {"inputs": INPUTS, "labels": LABELS + 0.5},
    "one class more": {"inputs": INPUTS, "labels": LABELS + 1},
    "a negative class": {"inputs": INPUTS, "labels": LABELS - 1},
    "no labels": {"inputs": INPUTS},
    "objects": {"inputs": INPUTS, "labels": LABELS.astype(object)},
}


@pytest.mark.parametrize("arrays", BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_is_one_line_with_its_path_that_tells_no_count(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The line reaches the server: how many examples there are is not its affair (rule 13)."""
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=rf"^{path}: ") as refusal:
        read_data(path, shaped((1, 8, 8)), client_id=0)
    line = str(refusal.value).removeprefix(str(path))
    assert "\n" not in line
    assert not {"22", "23"} & set(line.replace("(", " ").replace(",", " ").split())


def test_a_missing_archive_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"own\.npz: no such file"):
        read_data(tmp_path / "own.npz", shaped((1, 8, 8)), client_id=0)


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int16"])
def test_inputs_of_any_number_type_are_prepared_as_the_task_says(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", inputs=INPUTS.astype(kind), labels=LABELS.astype(np.uint8))
    task = shaped((1, 8, 8))
    found = read_data(tmp_path / "own.npz", task, client_id=5)
    assert found.client_id == 5
    assert found.inputs.dtype == torch.float32
    assert torch.equal(found.inputs, task.prepare(torch.from_numpy(INPUTS)))
    assert found.labels.dtype == torch.int64
    assert found.labels.tolist() == LABELS.tolist()
