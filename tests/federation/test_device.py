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
from fedlite.data.types import ClientData, Normalise, Task
from fedlite.distill.answers import taught_answers
from fedlite.federation import client, device, examples
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.device import Device, open_ledger
from fedlite.federation.examples import Examples, preparation
from fedlite.federation.messages import ARRAYS, State, to_state
from fedlite.federation.sealed import FAILED
from fedlite.federation.simulation import SIMULATION
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.policy import Policy, load_policy
from fedlite.privacy.randomness import make_randomness
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.federate import client_options
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, begun, simulation_options

RULES = "data_set: ward-7\nmax_epsilon: 50\nrandomness: deterministic\n"
OPTIONS = ("student=mlp", "privacy.randomness=deterministic", "privacy.accountant=rdp")


def raw(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as they come from a scanner, and labels."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 17, (examples, 1, 8, 8), dtype=np.uint8)
    return inputs, rng.integers(0, 10, examples)


def write_archive(path: Path, examples: int = 40, seed: int = 0) -> None:
    inputs, labels = raw(examples, seed)
    np.savez(path, inputs=inputs, labels=labels)


def policy_of(task: Task, rules: str = RULES) -> str:
    """A policy for examples of this task, as their owner writes it down: with rounded constants."""
    constants = task.preprocessing
    return (
        f"{rules}data:\n  input_shape: {list(task.input_shape)}\n"
        f"  class_names: {list(task.class_names)}\n  scale: {constants.scale}\n"
        f"  mean: {[float(f'{value:.4g}') for value in constants.mean]}\n"
        f"  std: {[float(f'{value:.4g}') for value in constants.std]}\n"
    )


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(*OPTIONS)


@pytest.fixture
def task(config: Config) -> Task:
    return splits_of(config).task


@pytest.fixture
def ward(task: Task, tmp_path: Path) -> Path:
    """A device's folder: a policy and an archive."""
    folder = tmp_path / "ward"
    folder.mkdir()
    (folder / "policy.yaml").write_text(policy_of(task))
    write_archive(folder / "own.npz")
    begun(LedgerFile(folder / "ward-7.ledger", "ward-7"))
    return folder


@pytest.fixture
def world(ward: Path, config: Config, tmp_path: Path) -> ClientWorld:
    """Devices of which the server knows nothing but that they are there."""
    node = {"policy": str(ward / "policy.yaml"), "data": "own.npz"}
    return ClientWorld(config, tmp_path / "server", node, simulated=False)


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
    return len(LedgerFile(folder / "ward-7.ledger", "ward-7").entries())


def prepared(ward: Path, examples: int, seed: int = 0) -> ClientData:
    """What the policy makes of raw examples."""
    rules = load_policy(ward / "policy.yaml").data
    assert rules is not None
    inputs, labels = raw(examples, seed)
    made = preparation(rules)(torch.from_numpy(inputs))
    return ClientData(0, made, torch.from_numpy(labels))


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


def test_the_policy_may_name_the_examples_itself(ward: Path) -> None:
    path = ward / "policy.yaml"
    path.write_text(path.read_text() + "  file: own.npz\n")
    found = Device.of({"policy": str(path)})
    assert found is not None
    assert found.data == ward / "own.npz"
    with pytest.raises(UsageError, match=r"data\.file: the node config's data names .* already"):
        Device.of({"policy": str(path), "data": "other.npz"})


def test_a_policy_that_does_not_say_how_the_examples_are_read_says_what_to_add(ward: Path) -> None:
    """Policies of old, whose examples were prepared as the server said."""
    (ward / "policy.yaml").write_text(RULES)
    with pytest.raises(UsageError, match=r"policy\.yaml: data: missing; say there how .* mean and"):
        Device.of({"policy": str(ward / "policy.yaml"), "data": "own.npz"})


def test_a_node_without_examples_is_told_what_to_say(
    ward: Path, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes: dict[str, dict[str, str | int]] = {
        "data: missing; name the device's own examples": {"policy": str(ward / "policy.yaml")},
        "policy: missing in the node config; a device": {},
    }
    for line, node in nodes.items():
        caplog.clear()
        with caught(FAILED):
            ClientWorld(config, tmp_path, node, simulated=False)
        assert line in caplog.text


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
    monkeypatch.setattr(device, "open_examples", noting("data", device.open_examples))
    monkeypatch.setattr(Ledger, "charge", noting("ledger", Ledger.charge))
    student(answer(world))
    assert order == ["policy", "data", "ledger"]


def test_of_all_that_is_broken_the_first_is_told_the_owner_and_nothing_is_charged(
    world: ClientWorld, ward: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server hears the same word whatever it is."""
    policy = (ward / "policy.yaml").read_text()

    def line() -> str:
        caplog.clear()
        assert answer(world).error.reason == FAILED
        return next(one.getMessage() for one in caplog.records if one.levelname == "ERROR")

    (ward / "policy.yaml").write_text("data_set: ward-7\n")
    (ward / "own.npz").write_bytes(b"?")
    (ward / "ward-7.ledger").write_text("?\n")
    assert "max_epsilon: missing" in line()
    (ward / "policy.yaml").write_text(policy)
    assert "own.npz" in line()
    write_archive(ward / "own.npz")
    assert "ward-7.ledger" in line()
    (ward / "ward-7.ledger").unlink()
    begun(LedgerFile(ward / "ward-7.ledger", "ward-7"))
    student(answer(world))
    assert charges(ward) == 1


def test_a_policy_that_refuses_charges_nothing(world: ClientWorld, ward: Path) -> None:
    (ward / "policy.yaml").write_text("units: []\n" + (ward / "policy.yaml").read_text())
    report = answer(world).content.config_records["report"]
    assert report["status"] == "refused"
    assert "allows no unit" in str(report["reason"])
    assert charges(ward) == 0


# --- its class of students ------------------------------------------------------------------


def check_a_device_stays_in_its_class(
    world: ClientWorld, ward: Path, own: str, theirs: str
) -> None:
    """Only the node config moves a device to a class, whatever a server sends."""
    options = replace(client_options(world.config, world.splits.task), class_name=theirs)
    for context in world.grid.contexts.values():
        context.run_config[CLIENT_OPTIONS] = options.to_json()
        context.node_config |= {"class": own} if own else {}
    report = answer(world).content.config_records["report"]
    assert report["status"] == ("trained" if own == theirs else "refused"), "a server moved it"
    if own != theirs:
        assert f"class={own or 'none'}" in str(report["reason"])
    assert charges(ward) == (own == theirs)


@pytest.mark.parametrize(
    ("own", "theirs"), [("tiny", "tiny"), ("tiny", "large"), ("tiny", ""), ("", "large")]
)
def test_a_device_trains_the_students_of_its_class_alone(
    own: str, theirs: str, world: ClientWorld, ward: Path
) -> None:
    check_a_device_stays_in_its_class(world, ward, own, theirs)


def test_a_planted_server_that_moves_a_device_is_caught(
    world: ClientWorld, ward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "class_difference", lambda node, options: "")
    with caught("a server moved it"):
        check_a_device_stays_in_its_class(world, ward, "tiny", "large")


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
    assert list(elsewhere.rglob("*.ledger*")) == [], "the server chose the ledger"
    assert charges(ward) == 1
    (ward / "policy.yaml").write_text("units: [client]\n" + (ward / "policy.yaml").read_text())
    reply = answer(world, server_round=2)
    assert reply.content.config_records["report"]["status"] == "refused", "the server's policy won"


def test_no_server_chooses_policy_data_or_ledger(
    world: ClientWorld, ward: Path, tmp_path: Path
) -> None:
    check_the_owner_decides(world, ward, tmp_path / "elsewhere")


def the_run_s_data(patch: pytest.MonkeyPatch) -> None:
    """A path in the run config goes before that of the node config."""
    real = device.open_examples

    def read(path: Path, policy: Policy, client_id: int) -> Examples:
        other = path.parent.parent / "elsewhere" / "other.npz"
        return real(other if other.exists() else path, policy, client_id)

    patch.setattr(device, "open_examples", read)


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
    world: ClientWorld, ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The same bits as a simulated client that holds these examples."""
    simulated = ClientWorld(tiny_config(*OPTIONS), tmp_path / "simulated")
    simulated.simulation._data[0] = prepared(ward, 40)
    assert same(student(answer(world)), student(answer(simulated)))
    simulated.simulation._data[0] = prepared(ward, 40, seed=1)
    assert not same(student(answer(world, 2)), student(answer(simulated, 2)))


def test_examples_that_the_owner_exchanged_are_trained_with_from_the_next_round_on(
    world: ClientWorld, ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """What the teacher said of the old ones is not taken for what it says of the new ones."""
    student(answer(world))
    write_archive(ward / "own.npz", examples=90, seed=1)
    os.utime(ward / "own.npz", ns=(1, 1))  # a clock that is coarse or goes back tells enough
    simulated = ClientWorld(tiny_config(*OPTIONS), tmp_path / "simulated")
    simulated.simulation._data[0] = prepared(ward, 90, seed=1)
    assert same(student(answer(world, 2)), student(answer(simulated, 2)))
    held = world.client()
    taught = held.workbench.teacher_answers(held.data, world.teacher_sha256)
    assert len(taught) == 90
    anew = taught_answers(world.teacher, held.data.inputs).logits
    assert torch.allclose(taught.logits, anew, atol=1e-6)


# --- its own preparation --------------------------------------------------------------------


def asked_for(world: ClientWorld, **changes: Any) -> Message:
    """The reply where the server says another task."""
    options = client_options(world.config, replace(world.splits.task, **changes))
    for context in world.grid.contexts.values():
        context.run_config[CLIENT_OPTIONS] = options.to_json()
        context.state.config_records.pop("reply-report", None)
    return answer(world)


def test_the_constants_of_the_policy_count_to_the_last_digit(
    world: ClientWorld, task: Task
) -> None:
    """A server's constants may be as near as a rounded one; they are not those that are used."""
    own = student(answer(world))
    constants = task.preprocessing
    near = replace(constants, scale=constants.scale * (1 + 1e-4))
    assert near != constants
    assert same(student(asked_for(world, preprocessing=near)), own)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_shape": (1, 8, 9)}, "input shape"),
        ({"class_names": tuple("0123456798")}, "classes"),
        ({"class_names": tuple("012345678")}, "classes"),
        ({"preprocessing": Normalise(16.0, (0.3,), (3.7e-6,))}, "normalisation"),
        ({"preprocessing": Normalise(1e-30, (0.3,), (0.4,))}, "normalisation"),
        ({"preprocessing": Normalise(16.0, (), ())}, "normalisation"),
        ({"preprocessing": Normalise(float("inf"), (0.3,), (0.4,))}, ""),
    ],
)
def test_a_run_for_other_examples_is_refused_and_charged_nothing(
    changes: dict[str, Any], words: str, world: ClientWorld, ward: Path
) -> None:
    reply = asked_for(world, **changes)
    if words:
        report = reply.content.config_records["report"]
        assert report["reason"] == f"the run's {words}: not as in this client's policy"
    else:
        assert reply.error.reason == FAILED
    assert charges(ward) == 0


def check_a_row_that_is_not_drawn_moves_nothing(world: ClientWorld, ward: Path) -> None:
    """One row is changed that the round does not draw: the clipped sum is the same, bit by bit."""
    assert world.plan is not None
    draws = make_randomness("deterministic", world.config.seed, "local-steps", 0, 1).uniform(40)
    row = int((draws >= world.plan.sample_rate).nonzero()[0])
    before = student(answer(world))
    inputs, labels = raw(40)
    wild = inputs.astype(np.float64)
    wild[row] = 1e4
    np.savez(ward / "own.npz", inputs=wild, labels=labels)
    for context in world.grid.contexts.values():
        context.state.config_records.pop("reply-report", None)
    assert same(student(answer(world)), before), "a row that is not drawn moves the sum"


def test_a_row_that_is_not_drawn_moves_nothing(world: ClientWorld, ward: Path) -> None:
    check_a_row_that_is_not_drawn_moves_nothing(world, ward)


def normalised_by_the_data(patch: pytest.MonkeyPatch) -> None:
    """Planted: mean and deviation of the device's own examples."""
    real = examples.read_examples

    def read(path: Path, rules: Any, client_id: int) -> Examples:
        found = real(path, rules, client_id)
        inputs = (found.data.inputs - found.data.inputs.mean()) / found.data.inputs.std()
        return replace(found, data=replace(found.data, inputs=inputs))

    patch.setattr(examples, "read_examples", read)


def test_planted_normalisation_by_the_data_is_caught(
    world: ClientWorld, ward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalised_by_the_data(monkeypatch)
    with caught("a row that is not drawn moves the sum"):
        check_a_row_that_is_not_drawn_moves_nothing(world, ward)
