"""Rule 13: of what fails on a client one constant word leaves, whatever raises and wherever."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto

from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation import client_app, sealed
from fedlite.federation.messages import ARRAYS, CONFIG
from fedlite.federation.sealed import FAILED, FAILURE, SealedClientApp
from fedlite.privacy.ledger import LedgerError
from tests.privacy.planted import caught
from tests.privacy.ward import Ward, patients, write_examples

SECRET = "Zaphod-31337.5"


class Unprintable(Exception):
    """Fails again when somebody reads what it says."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


class Panic(BaseException):
    """As what Rust's extensions raise: no ``except Exception`` sees it."""


ERRORS: list[BaseException] = [
    ValueError(SECRET),
    KeyError(SECRET),
    UsageError(SECRET),
    LedgerError(SECRET),
    OSError(2, "No such file", f"/srv/{SECRET}.npz"),
    MemoryError(SECRET),
    RecursionError(SECRET),
    StopIteration(SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    ImportError(SECRET, name=SECRET),
    Unprintable(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    Panic(SECRET),
]

# Where handlers go, beside what they call by name: (message, object of a module, its attribute).
DEEPER = [
    ("teach", "fedlite.federation.device", "load_policy"),
    ("teach", "fedlite.federation.client", "_options"),
    ("teach", "fedlite.federation.workbench", "state_sha256"),
    ("teach", "fedlite.federation.workbench", "save_tensors"),
    ("request", "fedlite.federation.device", "load_policy"),
    ("request", "fedlite.federation.device", "forbidden_code"),
    ("request", "fedlite.federation.device", "task_difference"),
    ("request", "fedlite.federation.client", "refusal"),
    ("request", "fedlite.federation.messages", "to_state"),
    ("request", "fedlite.federation.device", "open_examples"),
    ("request", "fedlite.federation.examples", "read_arrays"),
    ("request", "fedlite.federation.examples", "preparation"),
    ("request", "fedlite.federation.client", "open_workbench"),
    ("request", "fedlite.federation.workbench", "build_model"),
    ("request", "fedlite.federation.workbench.Workbench", "teacher_answers"),
    ("request", "fedlite.federation.workbench", "load_tensors"),
    ("request", "fedlite.federation.workbench.Workbench", "trained_part"),
    ("request", "fedlite.federation.training.LocalWork", "of"),
    ("request", "fedlite.federation.device", "open_ledger"),
    ("request", "fedlite.privacy.ledger.Ledger", "charge"),
    ("request", "fedlite.federation.training", "train_steps"),
    ("request", "fedlite.privacy.steps", "PoissonSampler"),
    ("request", "fedlite.privacy.steps", "add_noise"),
    ("request", "fedlite.federation.sums.plain.PlainSum", "seal"),
]


def called(handler: FunctionType) -> list[str]:
    """What a handler calls by a name of its module: a new call is a new case."""
    names = handler.__code__.co_names
    return [name for name in names if callable(getattr(client_app, name, None))]


HANDLERS = {
    "hello": [client_app.hello],
    "teach": [client_app.receive_teacher],
    "request": [
        client_app.train,
        client_app._admit,
        client_app._Admitted.begin,
        client_app._charge,
        client_app._Job.answer_alone,
        client_app._Job.reply,
        client_app._Asked.put_on,
    ],
}
STEPS = [
    (message, "fedlite.federation.client_app", name)
    for message, handlers in HANDLERS.items()
    for handler in handlers
    for name in called(handler)
] + DEEPER
CASES = [
    pytest.param(*step, ERRORS[number % len(ERRORS)], id=f"{step[0]}-{step[2]}")
    for number, step in enumerate(STEPS)
]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "own.npz"
    write_examples(path, *patients(12))
    return path


@pytest.fixture
def ward(tmp_path: Path, examples: Path) -> Ward:
    made = Ward(tmp_path)
    (tmp_path / "own.npz").write_bytes(examples.read_bytes())
    return made


def located(path: str) -> Any:
    """The module, or the class in a module, of this path."""
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def check_one_word(reply: Message) -> None:
    """The whole reply, as it travels, holds nothing of the failure."""
    assert reply.has_error(), "a failure looks like an answer"
    assert (reply.error.code, reply.error.reason) == (2, FAILED), "a failure is told in words"
    assert SECRET.encode() not in message_to_proto(reply).SerializeToString()


def raising(error: BaseException) -> Callable[..., Any]:
    def broken(*args: object, **options: object) -> Any:
        raise error

    return broken


@pytest.mark.parametrize(("message", "place", "name", "error"), CASES)
def test_an_exception_at_any_step_leaves_as_one_word(
    message: str,
    place: str,
    name: str,
    error: BaseException,
    ward: Ward,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if message != "teach":
        assert not ward.ask(ward.teach()).has_error()
    asked = getattr(ward, message)()
    if name == "refused_reply":
        asked = ward.request(delta=1e-3)
    monkeypatch.setattr(located(place), name, raising(error))
    check_one_word(ward.ask(asked))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_leaves_as_one_word(
    error: BaseException, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_app, "number_of", raising(error))
    check_one_word(ward.ask(ward.hello()))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_ends_it(
    stop: type[BaseException], ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's own signal handler raises one: a client that took it for a failure would go on."""
    monkeypatch.setattr(client_app, "number_of", raising(stop()))
    with pytest.raises(stop):
        ward.ask(ward.hello())


def malformed(ward: Ward) -> Iterator[Message]:
    """Messages that no server of ours sends."""
    arrays, whole = ArrayRecord(), ward.request().content
    for kind in ("query.hello", "query.teacher", "train"):
        for content in (
            RecordDict({CONFIG: ConfigRecord()}),
            RecordDict({CONFIG: arrays, ARRAYS: ConfigRecord({"x": SECRET})}),
            RecordDict({ARRAYS: arrays}),
            RecordDict({CONFIG: ConfigRecord({"sha256": [1.5], "run": b"x"}), ARRAYS: arrays}),
        ):
            if kind != "query.hello":  # it asks for nothing, and so cannot ask wrongly
                yield Message(content, 7, kind)
    for kind in ("evaluate", "train.other", "query", "query.policy"):
        yield Message(whole, 7, kind)


def test_messages_that_are_none_leave_one_word_and_cost_nothing(ward: Ward) -> None:
    for message in malformed(ward):
        check_one_word(ward.ask(message))
    assert ward.charges() == 0


# --- mods and lifespan ----------------------------------------------------------------------


def answers(message: Message, context: Context) -> Message:
    return Message(RecordDict(), reply_to=message)


def broken_mod(message: Message, context: Context, call: Any) -> Message:
    call(message, context)
    raise ValueError(SECRET)


def broken_before(context: Context) -> Iterator[None]:
    raise ValueError(SECRET)
    yield


def broken_after(context: Context) -> Iterator[None]:
    yield
    raise ValueError(SECRET)


@pytest.mark.parametrize("lifespan", [None, broken_before, broken_after])
def test_mods_and_lifespans_are_behind_the_same_boundary(
    lifespan: Callable[[Context], Iterator[None]] | None, ward: Ward
) -> None:
    app = SealedClientApp()
    app.query("hello", mods=[] if lifespan else [broken_mod])(answers)
    if lifespan is not None:
        app.lifespan()(lifespan)
    message = ward.hello()
    message.metadata.__dict__["_message_id"] = "1"
    check_one_word(app(message, ward.context))


# --- the owner is told ----------------------------------------------------------------------


def test_the_owner_s_log_says_why(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    (ward.folder / "own.npz").unlink()
    ward.ask(ward.teach())
    check_one_word(ward.ask(ward.request()))
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "own.npz: no such file" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is not None
    assert FAILURE not in ward.context.state, "only a simulated client keeps it for its run"


def test_a_library_s_words_stay_within_the_traceback(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_app, "number_of", raising(ValueError(SECRET)))
    ward.ask(ward.hello())
    (record,) = caplog.records
    assert record.getMessage().endswith("ValueError")


# --- planted bugs ---------------------------------------------------------------------------


def not_sealed(app: Callable[..., Message], message: Message, context: Context) -> Message:
    """As SuperNodes do it: the text of the exception."""
    try:
        return app(message, context)
    except Exception as error:
        return Message(sealed.Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)


def tells_our_own_errors(
    app: Callable[..., Message], message: Message, context: Context
) -> Message:
    """One line of ours says only what is fit to be read, by its owner."""
    try:
        return app(message, context)
    except FedliteError as error:
        return Message(sealed.Error(2, str(error)), reply_to=message)


def tells_what_kind_of_error(
    app: Callable[..., Message], message: Message, context: Context
) -> Message:
    try:
        return app(message, context)
    except Exception as error:
        return Message(sealed.Error(2, type(error).__name__), reply_to=message)


@pytest.mark.parametrize("plant", [not_sealed, tells_our_own_errors, tells_what_kind_of_error])
def test_planted_boundaries_are_caught(
    plant: Callable[..., Message], ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "answer", plant)
    monkeypatch.setattr(client_app, "number_of", raising(UsageError(SECRET)))
    with caught("told in words"):
        check_one_word(ward.ask(ward.hello()))


def test_the_app_is_sealed_itself_and_not_by_who_calls_it() -> None:
    assert isinstance(client_app.app, ClientApp)
    assert isinstance(client_app.app, SealedClientApp)
