"""Rule 16: arrays are float, finite and of the student's names and shapes, or the reply is out."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from torch import Tensor

from fedlite.base.errors import FedliteError
from fedlite.federation.messages import (
    ARRAYS,
    State,
    check_arrays,
    refused_reply,
    to_arrays,
    trained_reply,
)
from fedlite.federation.rounds import Federation
from fedlite.federation.sums import plain
from fedlite.privacy.client_level import ClientPlan
from tests.federation.scripted import STUDENT, ScriptedClients, add, federation, run_scripted
from tests.privacy.releases import make_client_plan

Check = Callable[[ArrayRecord, Mapping[str, Tensor]], None]


def arrays(**changes: np.ndarray) -> ArrayRecord:
    """A good reply's arrays with some replaced."""
    good = {name: value.numpy() + 1 for name, value in STUDENT.items()}
    return ArrayRecord({name: Array(value) for name, value in (good | changes).items()})


def floats(*shape: int, value: float = 1.0, dtype: str = "float32") -> np.ndarray:
    return np.full(shape, value, dtype=dtype)


BAD: dict[str, Callable[[], ArrayRecord]] = {
    "scalar": lambda: arrays(weight=floats()),
    "scalar_for_a_vector": lambda: arrays(bias=floats()),
    "int64": lambda: arrays(weight=floats(2, 3, dtype="int64")),
    "bool": lambda: arrays(bias=floats(3, dtype="bool")),
    "NaN": lambda: arrays(weight=floats(2, 3, value=np.nan)),
    "one_NaN": lambda: arrays(bias=np.array([1, np.nan, 1], dtype=np.float32)),
    "infinite": lambda: arrays(weight=floats(2, 3, value=-np.inf)),
    "wrong_shape": lambda: arrays(weight=floats(3, 2)),
    "one_row": lambda: arrays(weight=floats(1, 3)),
    "empty": lambda: arrays(weight=floats(0, 3)),
    "wrong_name": lambda: ArrayRecord({"weight": Array(floats(2, 3)), "offset": Array(floats(3))}),
    "prefixed": lambda: ArrayRecord({f"_module.{n}": a for n, a in arrays().items()}),
    "one_missing": lambda: ArrayRecord({"weight": Array(floats(2, 3))}),
    "one_more": lambda: arrays(gradient=floats(2, 3)),
}


def lets_scalars_through(record: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
    """Planted: what can be added to the student counts as its shape."""
    if list(record) != list(expected):
        raise FedliteError("names")
    for name, array in record.items():
        value = array.numpy()
        if np.broadcast_shapes(value.shape, tuple(expected[name].shape)) != expected[name].shape:
            raise FedliteError("shape")
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise FedliteError("value")


def lets_nan_through(record: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
    """Planted: like Flower's clip, which compares norms; with NaN that never holds."""
    check_arrays(
        ArrayRecord(
            {
                name: Array(np.nan_to_num(array.numpy(), nan=0.0, posinf=0.0, neginf=0.0))
                for name, array in record.items()
            }
        ),
        expected,
    )


def lets_integers_through(record: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
    """Planted: any number will do."""
    floating = {name: Array(array.numpy().astype(np.float32)) for name, array in record.items()}
    check_arrays(ArrayRecord(floating), expected)


def lets_names_through(record: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
    """Planted: looks only at what it knows, like ``load_state_dict(strict=False)``."""
    known = {name: array for name, array in record.items() if name in expected}
    check_arrays(ArrayRecord(known), {name: expected[name] for name in known})


PLANTED = [
    (lets_scalars_through, "scalar"),
    (lets_nan_through, "NaN"),
    (lets_nan_through, "infinite"),
    (lets_integers_through, "int64"),
    (lets_names_through, "prefixed"),
    (lets_names_through, "one_more"),
]


# --- the check itself ----------------------------------------------------------------------------


def check_that_it_rejects(check: Check, name: str) -> None:
    """``check`` takes the good arrays and raises on the bad ones."""
    check(arrays(), STUDENT)
    try:
        check(BAD[name](), STUDENT)
    except FedliteError:
        return
    raise AssertionError(f"{name} passed")


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_rejected(name: str) -> None:
    check_that_it_rejects(check_arrays, name)


@pytest.mark.parametrize(("planted", "name"), PLANTED)
def test_planted_checks_that_let_them_through_are_caught(planted: Check, name: str) -> None:
    with pytest.raises(AssertionError):
        check_that_it_rejects(planted, name)


# --- the server's rounds -------------------------------------------------------------------------


def run_with(
    second: Callable[[Message, State], Message], client_plan: ClientPlan | None, directory: Path
) -> Federation:
    """Two rounds of three clients, of which the second one answers as told."""
    clients = ScriptedClients([add(0.1), second, add(0.3)])
    made = federation(directory, 3, client_plan=client_plan)
    return run_scripted(clients, made)


def check_that_the_round_goes_on(
    name: str, client_plan: ClientPlan | None, directory: Path
) -> None:
    """A bad reply is counted as failed and changes nothing: as if that client had refused."""

    def sends_bad_arrays(message: Message, state: State) -> Message:
        reply = trained_reply(message, to_arrays(state), 0.0)
        reply.content[ARRAYS] = BAD[name]()
        return reply

    try:
        made = run_with(sends_bad_arrays, client_plan, directory / "bad")
    except Exception as error:
        raise AssertionError(f"{name} broke the run off") from error
    assert [record.clients_failed for record in made.history] == [1, 1]
    assert [record.clients_trained for record in made.history] == [2, 2]
    refuses = lambda message, state: refused_reply(message, "no", 0.0)  # noqa: E731
    other = run_with(refuses, client_plan, directory / "refused")
    assert all(torch.equal(made.result[n], v) for n, v in other.result.items())
    assert all(value.isfinite().all() for value in made.result.values())


PLANS = [None, make_client_plan(expected_cohort=3.0, participation_rate=1.0, epsilon=1e3)]
UNITS = ["example-level", "client-level"]


@pytest.mark.parametrize("client_plan", PLANS, ids=UNITS)
@pytest.mark.parametrize("name", ["scalar", "int64", "NaN", "wrong_shape", "wrong_name"])
def test_the_round_goes_on_without_the_bad_reply(
    name: str, client_plan: ClientPlan | None, tmp_path: Path
) -> None:
    check_that_the_round_goes_on(name, client_plan, tmp_path)


@pytest.mark.parametrize("client_plan", PLANS, ids=UNITS)
@pytest.mark.parametrize(
    ("planted", "name"), [(lets_scalars_through, "scalar"), (lets_nan_through, "NaN")]
)
def test_a_server_with_a_planted_check_is_caught(
    planted: Check,
    name: str,
    client_plan: ClientPlan | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain, "check_arrays", planted)
    with pytest.raises(AssertionError):
        check_that_the_round_goes_on(name, client_plan, tmp_path)
