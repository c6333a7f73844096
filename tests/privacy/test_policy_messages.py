"""The device's own policy, through real messages: what a server asks for beyond it is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from flwr.app import Message

from fedlite.base.errors import UsageError
from fedlite.cli.main import run
from fedlite.federation.device import Device
from fedlite.federation.messages import ARRAYS, CONFIG
from fedlite.federation.sealed import FAILED
from fedlite.federation.simulation import check_policy
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.ledger_folder import read_ledgers
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.privacy.world import ClientWorld, begun, make_plan

NAN, INF = math.nan, math.inf


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A device's folder with a policy file."""
    folder = tmp_path / "ward"
    folder.mkdir()
    (folder / "policy.yaml").write_text(
        "data_set: ward-7\nmax_epsilon: 4\nmax_delta: 1e-5\nmin_noise_multiplier: 0.5\n"
        "units: [example, client]\ntrust: [local, aggregate]\nmin_cohort: 3\nmin_colluders: 0\n"
    )
    return folder


@pytest.fixture
def device(
    ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> Callable[..., ClientWorld]:
    """Clients whose node config names the policy; the options are the server's."""

    def build(*overrides: str, **node_config: str) -> ClientWorld:
        node_config = {"policy": str(ward / "policy.yaml"), **node_config}
        device = Device.of(node_config)
        assert device is not None
        begun(device.ledger)
        options = ("student=mlp", "privacy.epsilon=3", "privacy.accountant=rdp", *overrides)
        return ClientWorld(tiny_config(*options), tmp_path, node_config)

    return build


def answer(world: ClientWorld, **fields: object) -> Message:
    """Send a train message whose plan was changed on the wire; the reply, an error included."""
    message = world.request(1)
    record = message.content.config_records[CONFIG]
    for name, value in fields.items():
        record[name.replace("plan_", "plan.", 1)] = value  # type: ignore[assignment]
    (reply,) = world.grid.send_and_receive([message])
    return reply


def spent(ward: Path) -> list[tuple[str, int]]:
    """What the device's ledger holds."""
    ledger = LedgerFile(ward / "ward-7.ledger", "ward-7")
    return [(charge.run, charge.round) for charge in ledger.entries()]


def assert_refused(reply: Message, words: str) -> None:
    assert not reply.has_error(), reply.error.reason
    report = reply.content.config_records["report"]
    assert report["status"] == "refused"
    assert words in str(report["reason"])
    assert not reply.content.array_records


def test_what_is_changed_on_the_wire_is_refused_and_never_charged(
    device: Callable[..., ClientWorld], ward: Path
) -> None:
    world = device()
    together = {"plan_trust": "aggregate", "plan_steps": 1, "plan_min_cohort": 3}
    for fields, words in [
        ({"plan_steps": -5}, "steps"),
        ({"plan_steps": 0}, "steps"),
        ({"plan_steps": "many"}, "steps"),
        ({"plan_sample_rate": 1.5}, "sample rate"),
        ({"plan_sample_rate": NAN}, "sample rate"),
        ({"plan_noise_multiplier": 0.0}, "noise multiplier"),
        ({"plan_noise_multiplier": NAN}, "noise multiplier"),
        (
            {"plan_noise_multiplier": 1e39},
            "noise multiplier 1e+39 is not above 0 and at most",
        ),
        ({"plan_sample_rate": 1e-40}, "sample rate 1e-40 is not between 1e-12 and 1"),
        ({"plan_epsilon": NAN}, "epsilon"),
        ({"plan_delta": 1e-4}, "delta"),
        ({"plan_max_grad_norm": 1e-45}, "max grad norm"),
        ({"plan_accountant": "none"}, "accountant"),
        ({"plan_randomness": "deterministic"}, "randomness"),
        ({**together, "plan_min_cohort": 4}, "cohort 4"),
        ({**together, "plan_colluders": -9}, "colluders"),
    ]:
        assert_refused(answer(world, **fields), words)
    for fields in [  # no plan in itself: no honest server sends it
        {"plan_delta": NAN},
        {"plan_max_grad_norm": INF},
        {"plan_expected_examples": 0},
        {"plan_trust": "blind"},
        {**together, "plan_steps": 2},
        {**together, "plan_min_cohort": 1},
        {"plan_noise_multiplier": "much"},
        {"plan_unknown": 1},
        {"plan_max_grad_norm": [1.0]},
        {"plan_delta": b"x"},
    ]:
        assert answer(world, **fields).error.reason == FAILED
    assert spent(ward) == []
    assert not answer(world).has_error()
    assert spent(ward) == [("run-a", 1)]


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (["privacy=none"], "unit none"),
        (["privacy=both"], "unit both"),
        (["privacy.randomness=deterministic"], "randomness deterministic"),
        (["privacy.delta=1e-4"], "delta 0.0001"),
        (["privacy.epsilon=1e9", "privacy.noise_multiplier=0.01"], "noise multiplier 0.01"),
        (["privacy=aggregate", "privacy.aggregate.min_cohort=4"], "cohort 4"),
    ],
)
def test_the_policy_on_the_device_beats_the_server_s_configuration(
    hostile: list[str], words: str, device: Callable[..., ClientWorld], ward: Path
) -> None:
    world = device(*hostile)
    assert_refused(world.train(1), words)
    assert spent(ward) == []
    assert not any(read_ledgers(world.directory / "ledgers").values())


def test_the_budget_is_the_device_s_however_much_the_server_offers(
    device: Callable[..., ClientWorld], ward: Path
) -> None:
    world = device("privacy.epsilon=12", "federation.rounds=20")
    reasons, epsilons = [], []
    for server_round in range(1, 21):
        report = world.train(server_round).content.config_records["report"]
        epsilons.append(float(str(report["epsilon"])))
        if report["status"] == "refused":
            reasons.append(str(report["reason"]))
    assert reasons
    assert all("would exceed the budget 4" in reason for reason in reasons)
    assert 0 < max(epsilons) <= 4.0
    assert len(spent(ward)) == 20 - len(reasons) > 0


def test_a_ledger_lies_beside_its_policy_wherever_the_process_starts(
    device: Callable[..., ClientWorld], ward: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device().train(1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    device().train(2)
    assert spent(ward) == [("run-a", 1), ("run-a", 2)]
    device(**{"ledger-dir": "kept"}).train(3)
    assert len(LedgerFile(ward / "kept" / "ward-7.ledger", "ward-7").entries()) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_owner_s_change_holds_from_the_next_message_on(
    ward: Path, tmp_path: Path, device: Callable[..., ClientWorld]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text((ward / "policy.yaml").read_text())
    world = device(policy=str(own))
    assert world.train(1).content.array_records
    own.write_text("data_set: ward-7\nmax_epsilon: 4\nunits: []\n")
    assert_refused(world.train(2), "allows no unit")
    own.write_text("data_set: ward-7\nmax_epsilon: four\n")
    assert answer(world, plan_epsilon=2.5).error.reason == FAILED
    assert "max_epsilon: Value 'four'" in world.grid.failure()
    assert len(LedgerFile(tmp_path / "ward-7.ledger", "ward-7").entries()) == 1


def test_client_level_training_needs_no_plan_and_charges_no_example_ledger(
    device: Callable[..., ClientWorld], ward: Path
) -> None:
    world = device("privacy=client", "federation.sampling=bernoulli")
    reply = world.train(1)
    assert set(reply.content) == {ARRAYS, "metrics", "report"}
    assert spent(ward) == []


# --- a simulation ---------------------------------------------------------------------------


def test_simulated_clients_keep_one_ledger_each_under_the_run_s_policy(
    ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    options = (f"privacy.policy={ward / 'policy.yaml'}", "privacy.epsilon=3")
    world = ClientWorld(tiny_config(*options), tmp_path)
    world.train(1, client_id=0)
    world.train(1, client_id=3)
    ledgers = read_ledgers(tmp_path / "ledgers")
    assert list(ledgers) == [f"ward-7-client-000{i}" for i in range(4)]
    assert [len(charges) for charges in ledgers.values()] == [1, 0, 0, 1]
    assert [len(world.ledger(i).entries()) for i in range(4)] == [1, 0, 0, 1]


def test_a_simulation_that_every_client_would_refuse_stops_before_training(
    ward: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(f"privacy.policy={ward / 'policy.yaml'}")
    fair = make_plan(noise_multiplier=2.0, randomness="secure")
    weak = replace(fair, noise_multiplier=0.1)
    check = partial(check_policy, config.privacy, config.dataset.name)
    with pytest.raises(UsageError, match=r"every client would refuse this run: noise multiplier"):
        check(weak, 2)
    with pytest.raises(UsageError, match=r"one round costs epsilon"):
        check(replace(fair, noise_multiplier=0.6), 2)
    check(fair, 2)
    (tmp_path / "broken.yaml").write_text("max_epsilon: 1")
    broken = tiny_config(f"privacy.policy={tmp_path / 'broken.yaml'}")
    with pytest.raises(UsageError, match="data_set: missing"):
        check_policy(broken.privacy, broken.dataset.name, fair, 1)


@pytest.mark.slow
def test_refusals_of_a_run_are_counted_by_their_reason(ward: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("data_set: small\nmax_epsilon: 5.5\n")
    policy = f"privacy.policy={tmp_path / 'small.yaml'}"
    folder = tmp_path / "run"
    options = ["student=mlp", "privacy.epsilon=8", "privacy.accountant=rdp"]
    assert run(["federate", *TINY, *options, policy, f"run.dir={folder}"]) == 0
    history = json.loads((folder / "state.json").read_text())["stages"]["federate"]["history"]
    assert [entry["clients_trained"] for entry in history] == [4, 0, 0]
    assert [sum(entry["refusals"].values()) for entry in history] == [0, 4, 4]
    reasons = {reason for entry in history for reason in entry["refusals"]}
    assert all("would exceed the budget 5.5" in reason for reason in reasons)
    assert list(read_ledgers(folder / "ledgers")) == [f"small-client-000{i}" for i in range(4)]
