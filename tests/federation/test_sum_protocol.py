"""Sum protocols: a client's half, a server's half, and a check of their own that judges replies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict
from torch import Tensor

from fedlite.base.errors import FedliteError
from fedlite.federation import rounds
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.messages import (
    ARRAYS,
    TRAIN,
    State,
    check_arrays,
    to_arrays,
    to_state,
    trained_reply,
)
from fedlite.federation.rounds import Federation
from fedlite.federation.sealed import FAILED
from fedlite.federation.sum_protocol import SUMS, SumProtocol
from fedlite.federation.sums.plain import PlainSum
from fedlite.federation.transport.grid import FIRST_NODE_ID
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import client_options
from tests.federation.scripted import STUDENT, Answer, ScriptedClients, federation, run_scripted
from tests.federation.test_rounds import raises
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld, make_plan

AGGREGATE = ("privacy=aggregate", "federation=fedavg")
GRAIN = 2.0**-20  # of the integers that masked students are rounded to


class Masked:
    """Whole numbers under masks that cancel in the sum of all clients, and say nothing alone."""

    def __init__(self, clients: int) -> None:
        rng = np.random.default_rng(0)
        self.masks = []
        for name, value in STUDENT.items():
            drawn = rng.integers(-(2**62), 2**62, (clients, *value.shape))
            drawn[-1] = -drawn[:-1].sum(axis=0)  # wraps around, as the sum does
            self.masks.append((name, drawn))

    def of_client(self, client: int) -> "Masked":
        own = Masked.__new__(Masked)
        own.masks = [(name, drawn[client]) for name, drawn in self.masks]
        return own

    def seal(self, state: State, request: Message) -> ArrayRecord:
        masked = {
            name: np.round(state[name].double().numpy() / GRAIN).astype(np.int64) + mask
            for name, mask in self.masks
        }
        return ArrayRecord({name: Array(value) for name, value in masked.items()})

    def check(self, arrays: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
        for name, value in expected.items():
            if arrays[name].numpy().dtype != np.int64 or arrays[name].shape != tuple(value.shape):
                raise FedliteError(f"array {name}: not masked")

    def total(self, replies: Sequence[Message]) -> State:
        sums = {name: np.zeros(value.shape, np.int64) for name, value in STUDENT.items()}
        for reply in replies:
            for name, array in reply.content.array_records[ARRAYS].items():
                sums[name] += array.numpy()
        return {name: torch.from_numpy(value).double() * GRAIN for name, value in sums.items()}


def sealed(protocol: Masked, client: int, amount: float) -> Answer:
    """The student moved by ``amount``, as the protocol's client half sends it."""

    def answer(message: Message, state: State) -> Message:
        moved = {name: value + amount for name, value in state.items()}
        return trained_reply(message, protocol.of_client(client).seal(moved, message), 0.5)

    return answer


def plainly(amount: float) -> Answer:
    """The student as it is, to a server that counts on masks."""

    def answer(message: Message, state: State) -> Message:
        moved = {name: value + amount for name, value in state.items()}
        return trained_reply(message, PlainSum().seal(moved, message), 0.5)

    return answer


def run_masked(directory: Path, answers: Sequence[Answer], protocol: SumProtocol) -> Federation:
    plan = make_plan(trust="aggregate", noise_multiplier=1.0, min_cohort=3)
    made = federation(directory, len(answers), *AGGREGATE, plan=plan)
    made.sum_protocol = protocol
    return run_scripted(ScriptedClients(answers), made)


# --- the checks -----------------------------------------------------------------------------


def check_the_protocol_judges(directory: Path) -> None:
    """Replies that no plain check would take are added up; plain ones are turned away."""
    protocol = Masked(3)
    masked = [sealed(protocol, client, amount) for client, amount in enumerate((1.0, 2.0, 6.0))]
    try:
        made = run_masked(directory, [*masked, plainly(100.0)], protocol)
    except FedliteError as error:
        raise AssertionError("masked replies were judged as plain arrays") from error
    assert [record.clients_trained for record in made.history] == [3, 3], (
        "masked replies were judged as plain arrays"
    )
    assert [record.clients_failed for record in made.history] == [1, 1]
    for name, value in STUDENT.items():  # two rounds of (1 + 2 + 6) / 3
        torch.testing.assert_close(made.result[name], value + 6)


def test_replies_are_judged_by_their_protocol_and_added_up_by_it(tmp_path: Path) -> None:
    check_the_protocol_judges(tmp_path)


def every_reply_a_plain_one(protocol: SumProtocol, expected: State, reply: Message) -> None:
    """Planted: the check of plain arrays, whatever the protocol."""
    check_arrays(reply.content.array_records[ARRAYS], expected)


def test_a_planted_server_that_judges_all_replies_as_plain_arrays_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "check_student", every_reply_a_plain_one)
    with caught("judged as plain arrays"):
        check_the_protocol_judges(tmp_path)


def test_what_is_wrong_with_a_masked_reply_is_not_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FedliteError, match="every client failed") as refusal:
        run_masked(tmp_path, [plainly(1.0), raises, plainly(2.0)], Masked(3))
    assert "not masked" not in str(refusal.value) + caplog.text


# --- the client's half ----------------------------------------------------------------------


def test_what_leaves_a_client_is_what_its_protocol_sealed_and_nothing_else(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("privacy=aggregate", "student=mlp", "privacy.randomness=deterministic")
    world = ClientWorld(tiny_config(*options), tmp_path)
    plain = to_state(world.train(1).content.array_records[ARRAYS])
    asked: list[str] = []

    def seal(self: PlainSum, state: State, request: Message) -> ArrayRecord:
        asked.append(request.metadata.message_id)
        assert all(torch.equal(state[name], value) for name, value in plain.items())
        return ArrayRecord({"sealed": Array(np.ones(1, dtype=np.int64))})

    monkeypatch.setattr(PlainSum, "seal", seal)
    reply = world.train(1)
    assert list(reply.content.array_records[ARRAYS]) == ["sealed"]
    assert asked == [reply.metadata.reply_to_message_id]


def test_a_protocol_that_a_client_does_not_have_costs_it_nothing(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    world = ClientWorld(tiny_config("student=mlp"), tmp_path)
    options = client_options(world.config, world.splits.task)
    other = replace(options, sum_protocol="masked").to_json()
    for context in world.grid.contexts.values():
        context.run_config[CLIENT_OPTIONS] = other
    (reply,) = world.grid.send_and_receive([world.request(1)])
    assert reply.error.reason == FAILED
    assert "sum protocol=masked: must be one of plain" in world.grid.failure()
    assert world.ledger().entries() == []


@pytest.mark.parametrize("path", ["os.path.join", "tests.federation.test_sum_protocol.Masked"])
def test_no_server_names_a_protocol_by_a_path_that_a_client_would_import(path: str) -> None:
    with pytest.raises(FedliteError, match="sum protocol"):
        SUMS.find(path)


# --- those that are offered -----------------------------------------------------------------


@pytest.mark.parametrize("name", SUMS.names())
def test_both_halves_together_are_the_sum(name: str) -> None:
    protocol: SumProtocol = SUMS.find(name)
    generator = torch.Generator().manual_seed(0)
    students = [
        {key: torch.randn(value.shape, generator=generator) for key, value in STUDENT.items()}
        for _ in range(3)
    ]
    request = Message(RecordDict({ARRAYS: to_arrays(STUDENT)}), FIRST_NODE_ID, TRAIN)
    request.metadata.__dict__["_message_id"] = "1"
    replies = [trained_reply(request, protocol.seal(one, request), 0.0) for one in students]
    for reply in replies:
        protocol.check(reply.content.array_records[ARRAYS], STUDENT)
    total = protocol.total(replies)
    for key in STUDENT:
        expected = sum(one[key].double() for one in students)
        assert total[key].dtype == torch.float64
        torch.testing.assert_close(total[key], expected, rtol=0, atol=1e-12)
