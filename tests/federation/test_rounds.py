"""The rounds: real messages, a real grid and server, clients that answer as told."""

from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedlite.base.errors import FedliteError
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.cohort import select_cohort
from fedlite.federation.messages import (
    ARRAYS,
    REPORT,
    State,
    TrainRequest,
    count_bytes,
    refused_reply,
    to_arrays,
    trained_reply,
)
from tests.federation.scripted import (
    STUDENT,
    TEACHER_BYTES,
    Answer,
    ScriptedClients,
    add,
    federation,
    run_scripted,
)
from tests.privacy.releases import make_client_plan


def nan(message: Message, state: State) -> Message:
    return trained_reply(message, to_arrays({k: v * torch.nan for k, v in state.items()}), 0.5)


def another_shape(message: Message, state: State) -> Message:
    return trained_reply(message, to_arrays({k: v[..., None] for k, v in state.items()}), 0.5)


def integers(message: Message, state: State) -> Message:
    return trained_reply(message, to_arrays({k: v.long() for k, v in state.items()}), 0.5)


def raises(message: Message, state: State) -> Message:
    raise ValueError("the sensor is gone")


def refuses(message: Message, state: State) -> Message:
    return refused_reply(message, "budget", 7.5)


def says_too_much(message: Message, state: State) -> Message:
    reply = trained_reply(message, to_arrays(state), 0.5)
    reply.content.config_records[REPORT]["loss"] = 0.1
    return reply


def sends_no_report(message: Message, state: State) -> Message:
    return Message(RecordDict({ARRAYS: to_arrays(state)}), reply_to=message)


def sends_no_arrays(message: Message, state: State) -> Message:
    report = ConfigRecord({"status": "trained", "epsilon": 0.5})
    return Message(RecordDict({REPORT: report}), reply_to=message)


def sends_more_records(message: Message, state: State) -> Message:
    reply = trained_reply(message, to_arrays(state), 0.5)
    reply.content["histogram"] = ConfigRecord({"counts": [1, 2]})
    return reply


def claims_weight(message: Message, state: State) -> Message:
    reply = trained_reply(message, to_arrays({k: v + 100 for k, v in state.items()}), 0.5)
    reply.content.metric_records["metrics"]["num-examples"] = 1_000_000
    return reply


def says_something_else(message: Message, state: State) -> Message:
    report = ConfigRecord({"status": "done", "reason": "", "epsilon": 0.5})
    return Message(RecordDict({REPORT: report}), reply_to=message)


def refuses_without_reason(message: Message, state: State) -> Message:
    report = ConfigRecord({"status": "refused", "epsilon": 0.5})
    return Message(RecordDict({REPORT: report}), reply_to=message)


BAD = [
    nan,
    another_shape,
    integers,
    raises,
    says_too_much,
    sends_no_report,
    sends_no_arrays,
    sends_more_records,
    claims_weight,
    says_something_else,
    refuses_without_reason,
]


@pytest.mark.parametrize("bad", BAD, ids=lambda answer: answer.__name__)
@pytest.mark.parametrize("place", [0, 2])
def test_a_bad_answer_is_counted_as_failed_and_the_round_goes_on(
    bad: Answer, place: int, tmp_path: Path
) -> None:
    answers = [add(1.0), add(3.0)]
    answers.insert(place, bad)
    made = run_scripted(ScriptedClients(answers), federation(tmp_path, 3))
    assert [record.clients_failed for record in made.history] == [1, 1]
    assert [record.clients_trained for record in made.history] == [2, 2]
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 4)
    assert all(value.isfinite().all() for value in made.result.values())


def test_a_refusal_is_counted_and_is_no_failure(tmp_path: Path) -> None:
    made = run_scripted(ScriptedClients([refuses, add(2.0)]), federation(tmp_path, 2))
    for record in made.history:
        assert (record.clients_trained, record.clients_refused, record.clients_failed) == (1, 1, 0)
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 4)


def test_all_refusing_leaves_the_model_and_ends_well(tmp_path: Path) -> None:
    made = run_scripted(ScriptedClients([refuses, refuses]), federation(tmp_path, 2))
    assert [record.clients_refused for record in made.history] == [2, 2]
    assert all(torch.equal(made.result[name], value) for name, value in STUDENT.items())


@pytest.mark.parametrize("bad", [raises, nan, sends_no_report], ids=lambda answer: answer.__name__)
def test_all_failing_ends_with_one_line_that_names_round_and_client(
    bad: Answer, tmp_path: Path
) -> None:
    with pytest.raises(FedliteError, match="round 1: every client failed; client 0") as caught:
        run_scripted(ScriptedClients([bad, bad]), federation(tmp_path, 2))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("sampling", ["fixed", "bernoulli"])
def test_the_teacher_is_sent_once_per_client_and_counted(sampling: str, tmp_path: Path) -> None:
    clients = ScriptedClients([add(1.0)] * 6)
    options = (
        "federation.fraction=0.5",
        f"federation.sampling={sampling}",
        "federation.rounds=8",
    )
    made = run_scripted(clients, federation(tmp_path, 6, *options))
    asked = {client for _, client in clients.asked}
    assert sorted(clients.teachers_received) == sorted(asked)
    per_client = sum(r.teacher_bytes for r in made.history) / len(asked)
    assert TEACHER_BYTES <= per_client <= TEACHER_BYTES + 500
    known: set[int] = set()
    for record in made.history:
        cohort = {client for number, client in clients.asked if number == record.round}
        assert record.teacher_bytes == per_client * len(cohort - known)
        known |= cohort


def test_bytes_are_those_of_the_messages(tmp_path: Path) -> None:
    sent: list[int] = []

    def answer(message: Message, state: State) -> Message:
        reply = trained_reply(message, to_arrays(state), 0.5)
        sent.append(count_bytes([reply]))
        return reply

    made = run_scripted(ScriptedClients([answer, answer]), federation(tmp_path, 2))
    config = TrainRequest.config("run", "0" * 64, None)
    config["server-round"] = 1
    request = count_bytes([Message(RecordDict({"a": to_arrays(STUDENT), "c": config}), 2, "train")])
    assert [record.bytes_up for record in made.history] == [sum(sent[:2]), sum(sent[2:])]
    for record in made.history:
        assert record.bytes_down - record.teacher_bytes == 2 * request


def test_an_empty_cohort_leaves_the_model_unchanged(tmp_path: Path) -> None:
    options = (
        "federation.fraction=0.2",
        "federation.sampling=bernoulli",
        "federation.rounds=12",
    )
    for strategy in ("fedavg", "fedavgm", "fedadam"):
        folder = tmp_path / strategy
        made = federation(folder, 2, *options, f"federation={strategy}")
        levels: list[float] = []
        made.on_round = lambda record, levels=levels: levels.append(record.evaluation.accuracy)  # type: ignore[misc]
        clients = ScriptedClients([add(1.0), add(1.0)])
        run_scripted(clients, made)
        cohorts = [select_cohort(made.options, 2, made.seed, r) for r in range(1, 13)]
        assert [] in cohorts
        assert any(cohorts)
        before = float(STUDENT["bias"][0])
        for cohort, record, level in zip(cohorts, made.history, levels, strict=True):
            assert record.clients_trained == len(cohort)
            assert (level == before) == (not cohort), f"{strategy}, round {record.round}"
            before = level


def test_epsilons_are_the_clients_own_and_last_known(tmp_path: Path) -> None:
    from tests.privacy.world import make_plan

    answers = [add(1.0), refuses, raises]
    made = run_scripted(ScriptedClients(answers), federation(tmp_path, 3, plan=make_plan()))
    assert [record.epsilons for record in made.history] == [[0.5, 7.5, 0.0]] * 2


def test_the_average_of_iterates_is_the_result_and_never_the_next_start(tmp_path: Path) -> None:
    starts: list[float] = []

    def answer(message: Message, state: State) -> Message:
        starts.append(float(state["weight"][0, 0]))
        return add(1.0)(message, state)

    made = federation(tmp_path, 1, "federation.rounds=3", "federation.ema_decay=0.5")
    run_scripted(ScriptedClients([answer]), made)
    assert starts == [0, 1, 2]
    assert float(made.result["weight"][0, 0]) == 0.5 * (0.5 * (0.5 * 0 + 0.5) + 1) + 1.5


def test_evaluation_follows_its_interval_and_ends_with_one(tmp_path: Path) -> None:
    made = federation(tmp_path, 1, "federation.rounds=5", "tracking.evaluate_every=2")
    run_scripted(ScriptedClients([add(1.0)]), made)
    assert [record.evaluation is not None for record in made.history] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    options = ("federation=fedavgm", "federation.fraction=0.6", "federation.rounds=6")
    whole_clients = ScriptedClients([add(1.0), add(2.0), add(4.0)])
    whole = run_scripted(whole_clients, federation(tmp_path / "whole", 3, *options))

    class PowerCutError(Exception):
        pass

    def cut(record: object) -> None:
        if len(load_checkpoint(broken.checkpoint_path).history) == 4:
            raise PowerCutError

    broken = federation(tmp_path / "broken", 3, *options)
    broken.on_round = cut
    with pytest.raises(PowerCutError):
        run_scripted(ScriptedClients([add(1.0), add(2.0), add(4.0)]), broken)

    clients = ScriptedClients([add(1.0), add(2.0), add(4.0)])
    resumed = run_scripted(clients, federation(tmp_path / "broken", 3, *options))
    assert {number for number, _ in clients.asked} == {5, 6}
    assert [record.round for record in resumed.history] == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(resumed.result[k], v) for k, v in whole.result.items())
    known = {client for number, client in whole_clients.asked if number <= 4}
    assert not known & set(clients.teachers_received), "a known teacher is not sent again"


@pytest.mark.parametrize("unit", ["none", "client"])
def test_a_client_that_cannot_take_the_teacher_is_a_failed_client(
    tmp_path: Path, unit: str
) -> None:
    class OneFullDisk(ScriptedClients):
        def _teacher(self, message: Message, context: Context) -> Message:
            if context.node_config["partition-id"] == 1:
                raise OSError("no space left")
            return super()._teacher(message, context)

    clients = OneFullDisk([add(1), add(2), add(3)])
    plan = make_client_plan(rounds=2) if unit == "client" else None
    made = run_scripted(clients, federation(tmp_path, 3, client_plan=plan))
    assert [record.clients_failed for record in made.history] == [1, 1]
    assert [record.clients_trained for record in made.history] == [2, 2]
    assert {client for _, client in clients.asked} == {0, 2}
    if unit == "none":  # two rounds of (1 + 3) / 2
        torch.testing.assert_close(made.result["weight"], STUDENT["weight"] + 4)
