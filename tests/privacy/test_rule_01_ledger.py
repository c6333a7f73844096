"""Rule 1: the ledger belongs to the data and is charged before training, whatever happens after."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedlite.data.types import ClientData
from fedlite.federation import client_app, training
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.client import Client
from fedlite.federation.transport.grid import InProcessGrid
from fedlite.privacy import ledger
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger, Spending, affordable
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.runs.config import Config
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, begun, held, into_files


@pytest.fixture(params=["store", "files"])
def client_world(
    request: pytest.FixtureRequest, tiny_config: Callable[..., Config], tmp_path: Path
) -> Callable[..., ClientWorld]:
    """The clients of a tiny configuration, their ledgers in one store or in files as before."""

    def build(*overrides: str) -> ClientWorld:
        config = tiny_config(*overrides)
        if request.param == "files":
            with held(config, tmp_path):
                into_files(tmp_path / "ledgers")
        return ClientWorld(config, tmp_path)

    return build


def charges_on_disk(world: ClientWorld, client_id: int = 0) -> list[Charge]:
    """What the ledgers hold of the client, read without the code under test."""
    ledgers, number = world.directory / "ledgers", f"-client-{client_id:04d}"
    files = [*sorted(ledgers.glob(f"*{number}.ledger")), *ledgers.glob("*.ledgers")]
    lines = [line for file in files for line in file.read_text().splitlines()[1:]]
    entries = [json.loads(line)["entry"] for line in lines]
    own = [one for one in entries if one.pop("data_set", number).endswith(number)]
    return [Charge(**entry) for entry in own]


def spent_on_disk(world: ClientWorld, client_id: int = 0) -> float:
    charges = charges_on_disk(world, client_id)
    return compute_epsilon([charge.segment for charge in charges], 1e-5, "rdp")


def forget_replies(world: ClientWorld) -> None:
    """As after a restart: no client has its last reply."""
    for context in world.grid.contexts.values():
        context.state.clear()


def report_of(reply: Any) -> dict[str, Any]:
    return dict(reply.content.config_records["report"])


# --- the checks -----------------------------------------------------------------------------


def check_a_crash_costs(world: ClientWorld) -> None:
    """Training ends, and the client fails before its reply is made."""

    def die(*_: object) -> None:
        raise RuntimeError("died with the trained student in hand")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_steps", _then(training.train_steps, die))
        (reply,) = world.grid.send_and_receive([world.request(1)])
    assert reply.has_error()
    spent = spent_on_disk(world)
    assert spent > 0, "what was trained is not charged"
    forget_replies(world)
    world.train(1)
    assert spent_on_disk(world) > spent, "the interrupted round was free"


def _then(first: Callable[..., object], second: Callable[..., object]) -> Callable[..., object]:
    def both(*args: object, **options: object) -> object:
        result = first(*args, **options)
        second()
        return result

    return both


def check_resume_never_lowers(world: ClientWorld) -> None:
    """A checkpoint after round 1, round 2 cut off, everything put back as it was saved."""
    world.train(1)
    saved = world.grid.dump_contexts()
    world.train(2)
    spent = spent_on_disk(world)
    world.grid.restore_contexts(saved)
    assert spent_on_disk(world) == spent, "the ledger was put back"
    world.train(2)
    assert spent_on_disk(world) > spent, "the repeated round was free"


def check_epsilon_accumulates(world: ClientWorld) -> None:
    for server_round in (1, 2, 3):
        told = report_of(world.train(server_round))["epsilon"]
        charges = [charge.segment for charge in charges_on_disk(world)]
        assert len(charges) == server_round
        assert told == compute_epsilon(charges, 1e-5, "prv"), "epsilon forgets earlier rounds"


def check_replays_cost(world: ClientWorld) -> None:
    """A round that was answered long ago is asked again: fresh noise is a second release."""
    for server_round in (1, 2, 3, 1):
        before = spent_on_disk(world)
        status = report_of(world.train(server_round))["status"]
        assert status == "refused" or spent_on_disk(world) > before, "a replayed round was free"


def check_a_changed_row_changes_no_ledger(world: ClientWorld) -> None:
    mine = world.splits.client(0)
    world.train(1)
    data = world.simulation._data
    data[0] = ClientData(0, mine.inputs[1:], mine.labels[1:])
    try:
        told = report_of(world.train(2))["epsilon"]
    finally:
        data[0] = mine
    charges = [charge.segment for charge in charges_on_disk(world)]
    assert len(charges) == 2
    assert told == compute_epsilon(charges, 1e-5, "prv"), "a changed row renewed the budget"


CHECKS = {
    check.__name__: check
    for check in (
        check_a_crash_costs,
        check_resume_never_lowers,
        check_epsilon_accumulates,
        check_replays_cost,
        check_a_changed_row_changes_no_ledger,
    )
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_ledger_remembers(
    check: Callable[[ClientWorld], None], client_world: Callable[..., ClientWorld]
) -> None:
    check(client_world())


# --- planted bugs ---------------------------------------------------------------------------


def charge_after_training(patch: pytest.MonkeyPatch) -> None:
    postponed: list[Callable[[], Spending]] = []
    real_charge, real_reply = Ledger.charge, client_app.trained_reply

    def later(self: Ledger, charge: Charge, *, replay: bool, **limits: Any) -> Spending:
        postponed.append(lambda: real_charge(self, charge, replay=replay, **limits))
        return affordable(self.entries(), charge, **limits)

    def charge_and_reply(*args: Any) -> Any:
        while postponed:
            postponed.pop()()
        return real_reply(*args)

    patch.setattr(Ledger, "charge", later)
    patch.setattr(client_app, "trained_reply", charge_and_reply)


def refund_on_failure(patch: pytest.MonkeyPatch) -> None:
    before: dict[Path, bytes] = {}
    real_charge, real_train = Ledger.charge, client_app.train_client

    def remember(self: Ledger, *args: Any, **options: Any) -> Spending:
        before[self.path] = self.path.read_bytes() if self.path.exists() else b""
        return real_charge(self, *args, **options)

    def train_or_refund(*args: Any) -> Any:
        try:
            return real_train(*args)
        except Exception:
            for path, content in before.items():
                path.write_bytes(content)
            raise

    patch.setattr(Ledger, "charge", remember)
    patch.setattr(client_app, "train_client", train_or_refund)


def ledgers_in_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    saved: dict[Path, bytes] = {}
    dump, restore = InProcessGrid.dump_contexts, InProcessGrid.restore_contexts

    def dump_all(self: InProcessGrid) -> dict[int, bytes]:
        ledgers = [Client.of(context).ledger.path for context in self.contexts.values()]
        saved.update({path: path.read_bytes() for path in ledgers if path.exists()})
        return dump(self)

    def restore_all(self: InProcessGrid, dumped: dict[int, bytes]) -> None:
        for path, content in saved.items():
            path.write_bytes(content)
        restore(self, dumped)

    patch.setattr(InProcessGrid, "dump_contexts", dump_all)
    patch.setattr(InProcessGrid, "restore_contexts", restore_all)


def a_new_accountant_for_each_message(patch: pytest.MonkeyPatch) -> None:
    def forgetful(_: object, charge: Charge, **limits: Any) -> Spending:
        return affordable([], charge, **limits)

    patch.setattr(ledger, "affordable", forgetful)


def replays_free_although_noise_is_fresh(patch: pytest.MonkeyPatch) -> None:
    real = Ledger.charge

    def once_a_round(self: Ledger, charge: Charge, *, replay: bool, **limits: Any) -> Spending:
        return real(self, charge, replay=True, **limits)

    patch.setattr(Ledger, "charge", once_a_round)


def data_set_id_from_the_content(patch: pytest.MonkeyPatch) -> None:
    real = Client.of

    def of(context: Any) -> Client:
        client = real(context)
        digest = hashlib.sha256(client.data.inputs.numpy().tobytes()).hexdigest()[:16]
        name = f"{digest}-client-{client.client_id:04d}"
        own = begun(LedgerFile(client.ledger.path.with_name(f"{name}.ledger"), name))
        return replace(client, ledger=own)

    patch.setattr(Client, "of", of)


@pytest.mark.parametrize(
    ("plant", "check", "because"),
    [
        (charge_after_training, check_a_crash_costs, "not charged"),
        (refund_on_failure, check_a_crash_costs, "not charged"),
        (ledgers_in_the_checkpoint, check_resume_never_lowers, "put back"),
        (a_new_accountant_for_each_message, check_epsilon_accumulates, "forgets"),
        (replays_free_although_noise_is_fresh, check_replays_cost, "free"),
        (
            data_set_id_from_the_content,
            check_a_changed_row_changes_no_ledger,
            "renewed",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_planted_bugs_are_caught(
    plant: Plant,
    check: Callable[[ClientWorld], None],
    because: str,
    client_world: Callable[..., ClientWorld],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = client_world()
    plant(monkeypatch)
    with caught(because):
        check(world)


# --- further promises -----------------------------------------------------------------------


def test_an_identical_request_gets_the_stored_reply_and_no_second_charge(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world()
    first, second = world.train(server_round=1), world.train(server_round=1)
    for name, array in first.content.array_records["arrays"].items():
        assert array.data == second.content.array_records["arrays"][name].data
    assert len(charges_on_disk(world)) == 1


def test_a_deterministic_replay_is_one_release(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world("privacy.randomness=deterministic")
    first = world.train(server_round=1)
    forget_replies(world)
    second = world.train(server_round=1)
    for name, array in first.content.array_records["arrays"].items():
        assert array.data == second.content.array_records["arrays"][name].data
    assert len(charges_on_disk(world)) == 1


def test_what_a_client_adds_itself_is_in_the_ledger(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("privacy=aggregate", "privacy.aggregate.min_cohort=4")
    assert world.plan is not None
    world.train(1)
    (entry,) = world.ledger().entries()
    assert entry.trust == "aggregate"
    assert entry.segment == world.plan.segment
    assert entry.local_segment[0] == world.plan.client_noise_multiplier < entry.noise_multiplier


@pytest.mark.parametrize(
    "change",
    [{"steps": -100}, {"steps": 0}, {"noise_multiplier": float("nan")}, {"sample_rate": 0.0}],
)
def test_a_request_that_would_give_budget_back_is_refused(
    change: dict[str, float], client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world()
    world.train(1)
    spent = spent_on_disk(world)
    refusal = world.train(2, **change)
    assert report_of(refusal)["status"] == "refused"
    assert spent_on_disk(world) == spent


def test_a_checkpoint_holds_no_ledger(finished_run: Path) -> None:
    checkpoint = load_checkpoint(finished_run / "checkpoint.pt")
    for raw in checkpoint.contexts.values():
        assert b"noise_multiplier" not in raw
    assert (finished_run / "ledgers" / "clients.ledgers").exists()
