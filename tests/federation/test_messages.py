"""What travels between server and client, and what the server refuses to aggregate."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import FedliteError
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    TRAIN,
    TrainRequest,
    check_arrays,
    check_reply,
    count_bytes,
    refused_reply,
    to_arrays,
    to_state,
    trained_reply,
)
from fedlite.privacy.plan import PrivacyPlan
from tests.privacy.world import make_plan

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "norm.scale": torch.tensor(0.25)}


def train_message(plan: PrivacyPlan | None, **extra: float) -> Message:
    """A train message as the server sends it, over the wire and back."""
    config = TrainRequest.config("run-a", "abc", plan)
    config["server-round"] = 7
    for key, value in extra.items():
        config[key.replace("_", "-")] = value
    content = RecordDict({ARRAYS: to_arrays(STATE), CONFIG: config})
    return Message(recorddict_from_proto(recorddict_to_proto(content)), 2, TRAIN)


@given(
    noise_multiplier=st.floats(0.01, 1e4),
    sample_rate=st.floats(1e-6, 1.0),
    expected_examples=st.integers(1, 10**9),
    steps=st.integers(1, 1000),
    accountant=st.sampled_from(["prv", "rdp"]),
)
def test_a_train_request_round_trips_with_its_plan(**fields: object) -> None:
    plan = make_plan(**fields)
    request = TrainRequest.parse(train_message(plan, proximal_mu=0.125).content)
    assert request.plan == plan
    assert (request.run, request.round, request.teacher_sha256) == ("run-a", 7, "abc")
    assert request.proximal_mu == 0.125
    assert list(request.state) == list(STATE)
    assert all(torch.equal(request.state[name], value) for name, value in STATE.items())


def test_a_request_without_privacy_carries_no_plan_and_no_proximal_term() -> None:
    request = TrainRequest.parse(train_message(None).content)
    assert request.plan is None
    assert request.proximal_mu == 0


def test_received_arrays_are_copies() -> None:
    arrays = to_arrays(STATE)
    to_state(arrays)["conv.weight"].zero_()
    assert torch.equal(to_state(arrays)["conv.weight"], STATE["conv.weight"])


def arrays_with(name: str, value: np.ndarray) -> ArrayRecord:
    """The expected arrays, with one of them replaced."""
    return ArrayRecord(
        {key: Array(value if key == name else tensor.numpy()) for key, tensor in STATE.items()}
    )


def test_arrays_like_the_student_s_pass() -> None:
    check_arrays(to_arrays(STATE), STATE)
    check_arrays(arrays_with("conv.weight", np.zeros((2, 3), dtype=np.float64)), STATE)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("conv.weight", np.zeros((2, 3), dtype=np.int64), "conv.weight.*int64"),
        ("conv.weight", np.zeros((2, 3), dtype=bool), "conv.weight.*bool"),
        ("conv.weight", np.zeros((2, 3), dtype=np.complex64), "conv.weight.*complex64"),
        ("conv.weight", np.zeros((3, 2), dtype=np.float32), r"conv.weight.*\(3, 2\).*\(2, 3\)"),
        ("conv.weight", np.array(1, dtype=np.float32), r"conv.weight.*\(\).*\(2, 3\)"),
        ("conv.weight", np.zeros((0, 3), dtype=np.float32), r"conv.weight.*\(0, 3\)"),
        ("norm.scale", np.zeros(1, dtype=np.float32), r"norm.scale.*\(1,\).*\(\)"),
        ("conv.weight", np.full((2, 3), np.nan, dtype=np.float32), "conv.weight.*not finite"),
        ("conv.weight", np.full((2, 3), -np.inf, dtype=np.float32), "conv.weight.*not finite"),
        ("norm.scale", np.array(np.inf, dtype=np.float32), "norm.scale.*not finite"),
    ],
)
def test_other_arrays_are_refused_by_name(name: str, value: np.ndarray, complaint: str) -> None:
    with pytest.raises(FedliteError, match=complaint):
        check_arrays(arrays_with(name, value), STATE)


def test_an_array_that_cannot_be_read_is_refused_by_name() -> None:
    arrays = to_arrays(STATE)
    arrays["norm.scale"].data = b"no array"
    with pytest.raises(FedliteError, match=r"array norm\.scale: cannot be read"):
        check_arrays(arrays, STATE)


@pytest.mark.parametrize(
    "names",
    [["conv.weight"], ["conv.weight", "norm.scale", "more"], ["conv.weight", "norm.shift"], []],
)
def test_other_names_are_refused(names: list[str]) -> None:
    arrays = ArrayRecord({name: Array(np.zeros((2, 3), dtype=np.float32)) for name in names})
    with pytest.raises(FedliteError, match="names differ"):
        check_arrays(arrays, STATE)


def test_bytes_are_those_of_the_records() -> None:
    arrays = ArrayRecord({"a": Array(np.zeros(1000, dtype=np.float32))})
    (payload,) = [array.data for array in arrays.values()]
    message = Message(RecordDict({"arrays": arrays}), 2, TRAIN)
    assert len(payload) <= count_bytes([message]) <= len(payload) + 200
    assert count_bytes([message, Message(message.content, 3, TRAIN)]) == 2 * count_bytes([message])
    more = RecordDict({"arrays": arrays, "metrics": MetricRecord({"x": 1.0})})
    assert count_bytes([Message(more, 2, TRAIN)]) > count_bytes([message])


def test_an_error_reply_counts_no_bytes() -> None:
    request = Message(RecordDict({"config": ConfigRecord({"a": 1})}), 2, TRAIN)
    request.metadata.__dict__["_message_id"] = "1"
    assert count_bytes([Message(Error(2, "no"), reply_to=request)]) == 0


def test_replies_say_what_happened_and_a_refusal_sends_no_arrays() -> None:
    request = train_message(None)
    request.metadata.__dict__["_message_id"] = "1"
    trained = trained_reply(request, to_arrays(STATE), 1.5).content
    assert dict(trained.config_records["report"]) == {"status": "trained", "epsilon": 1.5}
    assert dict(trained.metric_records["metrics"]) == {"num-examples": 1}
    refused = refused_reply(request, "too much", 2.5).content
    assert set(refused) == {"report"}
    assert refused.config_records["report"]["reason"] == "too much"


@pytest.mark.parametrize("epsilon", ["abc", True, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_number_is_refused(epsilon: object) -> None:
    reply = trained_reply(train_message(make_plan()), to_arrays(STATE), 0.5)
    reply.content.config_records["report"]["epsilon"] = epsilon  # type: ignore[assignment]
    with pytest.raises(FedliteError, match="epsilon is not a finite number"):
        check_reply(reply.content)


def test_a_reason_without_end_is_refused() -> None:
    reply = refused_reply(train_message(make_plan()), "no" * 1000, 0.5)
    with pytest.raises(FedliteError, match="more than 1000 characters"):
        check_reply(reply.content)


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_a_number_that_the_student_cannot_hold_is_not_finite(value: float) -> None:
    state = {name: one.double() for name, one in STATE.items()}
    state["norm.scale"] = torch.tensor(value, dtype=torch.float64)
    with pytest.raises(FedliteError, match=r"norm\.scale: not finite"):
        check_arrays(to_arrays(state), STATE)
