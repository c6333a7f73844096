"""What travels between server and client, as Flower records, and the checks at both ends.

A reply may carry exactly three records: ``arrays`` (the noised student), ``metrics`` (the constant
weight 1 that Flower's averaging asks for) and ``report`` (status and spent epsilon, a function of
the plan alone). Nothing else leaves a client (rules 10 and 13).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import recorddict_to_proto
from torch import Tensor

from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation.arrays import decode, encode
from fedlite.privacy.plan import PrivacyPlan

HELLO = "query.hello"
TEACHER = "query.teacher"
TRAIN = "train"

ARRAYS, CONFIG, METRICS, REPORT = "arrays", "config", "metrics", "report"
TEACHER_RECORD = "teacher"  # in a client's state: the hash of the one that it holds
WEIGHT = "num-examples"  # Flower's name; always 1 (rule 3)
LONGEST_REASON = 1000  # characters
REPORT_KEYS = frozenset({"status", "reason", "epsilon"})

State = dict[str, Tensor]
_Record = TypeVar("_Record", ArrayRecord, ConfigRecord)


@dataclass(frozen=True)
class TrainRequest:
    """One round's work for one client. ``plan`` is None where training is not private."""

    run: str
    round: int
    teacher_sha256: str
    proximal_mu: float
    plan: PrivacyPlan | None
    state: State

    @staticmethod
    def config(run: str, teacher_sha256: str, plan: PrivacyPlan | None) -> ConfigRecord:
        """The part of the request that the server hands to Flower's strategy."""
        values: dict[str, Any] = {"run": run, "teacher-sha256": teacher_sha256}
        if plan is not None:
            values |= {f"plan.{key}": value for key, value in dataclasses.asdict(plan).items()}
        return ConfigRecord(values)

    @classmethod
    def parse(cls, content: RecordDict) -> "TrainRequest":
        """Read a train message; Flower's strategy has added round and proximal term.

        Raises:
            UsageError: a value that no client could work with, or a plan that is not valid in
                itself: no honest server sends it.
            KeyError: a record or value is missing.
            TypeError: a plan of other fields or types.
        """
        values = dict(config_in(content))
        run, number, sha256 = values["run"], values["server-round"], values["teacher-sha256"]
        mu = values.get("proximal-mu", 0.0)
        if not (isinstance(run, str) and isinstance(number, int) and isinstance(sha256, str)):
            raise UsageError("request: run, round and teacher are not text, number and text")
        if not (isinstance(mu, int | float) and 0 <= mu < math.inf):
            raise UsageError("request: the proximal term is not a finite number of 0 or more")
        plan = {k.removeprefix("plan."): v for k, v in values.items() if k.startswith("plan.")}
        return cls(
            run=run,
            round=number,
            teacher_sha256=sha256,
            proximal_mu=float(mu),
            plan=PrivacyPlan(**cast(dict[str, Any], plan)) if plan else None,
            state=to_state(arrays_in(content)),
        )


def asks_for_one_private_step(message: Message) -> bool:
    """Whether a message asks for training that clients of one process may do together."""
    return (
        message.metadata.message_type == TRAIN
        and CONFIG in message.content
        and config_in(message.content).get("plan.steps") == 1
    )


def arrays_in(content: RecordDict, name: str = ARRAYS) -> ArrayRecord:
    """The arrays of a message, or what is kept under another name.

    Raises:
        KeyError: there are none.
    """
    return _record_in(content, name, ArrayRecord)


def config_in(content: RecordDict, name: str = CONFIG) -> ConfigRecord:
    """The config of a message, or what is kept under another name.

    Raises:
        KeyError: there is none.
    """
    return _record_in(content, name, ConfigRecord)


def _record_in(content: RecordDict, name: str, kind: type[_Record]) -> _Record:
    """A record of ``kind``; Flower's own way looks through and copies all records."""
    record = content[name]
    if not isinstance(record, kind):
        raise KeyError(name)
    return record


def to_state(arrays: ArrayRecord) -> State:
    """A record of arrays as a torch state dict (copies).

    Raises:
        FedliteError: an array cannot be read.
    """
    return {name: torch.from_numpy(decode(array).copy()) for name, array in arrays.items()}


def to_arrays(state: Mapping[str, Tensor]) -> ArrayRecord:
    """A torch state dict as a record of arrays."""
    record = ArrayRecord()  # Flower copies what its constructor is given
    for name, value in state.items():
        record[name] = encode(value)
    return record


def trained_reply(request: Message, arrays: ArrayRecord, epsilon: float) -> Message:
    """The noised student, as its sum protocol sends it, and the client's spent epsilon (0 without
    privacy)."""
    report = ConfigRecord({"status": "trained", "epsilon": epsilon})
    weight = MetricRecord({WEIGHT: 1})
    content = RecordDict({ARRAYS: arrays, METRICS: weight, REPORT: report})
    return Message(content, reply_to=request)


def refused_reply(request: Message, reason: str, epsilon: float) -> Message:
    """A refusal is a normal reply: no arrays, the reason, what has been spent so far."""
    report = ConfigRecord({"status": "refused", "reason": reason, "epsilon": epsilon})
    return Message(RecordDict({REPORT: report}), reply_to=request)


def check_reply(content: RecordDict) -> ConfigRecord:
    """The report of a reply, which must hold what the allow-list names and nothing else.

    Raises:
        FedliteError: another record or report key, or a weight other than 1.
    """
    try:
        report = config_in(content, REPORT)
    except KeyError:
        report = ConfigRecord()
    trained = report.get("status") == "trained"
    if set(report) != (REPORT_KEYS - {"reason"} if trained else REPORT_KEYS):
        raise FedliteError(f"reply: report with keys {sorted(report)}, not {sorted(REPORT_KEYS)}")
    if not trained and report["status"] != "refused":
        raise FedliteError(f"reply: status {report['status']!r}, not trained or refused")
    epsilon = report["epsilon"]
    if not (isinstance(epsilon, float) and 0 <= epsilon < math.inf):
        raise FedliteError("reply: epsilon is not a finite number of 0 or more")
    if not trained and len(str(report["reason"])) > LONGEST_REASON:
        raise FedliteError(f"reply: a reason of more than {LONGEST_REASON} characters")
    if set(content) != ({ARRAYS, METRICS, REPORT} if trained else {REPORT}):
        raise FedliteError(f"reply: records {sorted(content)} with status {report['status']!r}")
    if trained and dict(content.metric_records.get(METRICS, {})) != {WEIGHT: 1}:
        raise FedliteError(f"reply: metrics must be {WEIGHT} = 1 alone")
    if trained and not isinstance(content[ARRAYS], ArrayRecord):
        raise FedliteError(f"reply: {ARRAYS} are no arrays")
    return report


def check_arrays(arrays: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
    """Arrays must be float, finite and of the expected names and shapes (rule 16).

    Raises:
        FedliteError: the first difference, with the array's name.
    """
    if list(arrays) != list(expected):
        raise FedliteError("arrays: names differ from the student's")
    for name, array in arrays.items():
        try:
            value = decode(array)
        except FedliteError as error:
            raise FedliteError(f"array {name}: {error}") from error
        want = expected[name]
        if value.shape != tuple(want.shape):
            raise FedliteError(f"array {name}: shape {value.shape} instead of {tuple(want.shape)}")
        if value.dtype.kind != "f":
            raise FedliteError(f"array {name}: type {value.dtype} instead of float")
        with np.errstate(over="ignore"):  # finite where it is used, not only where it was sent
            narrowed = value.astype(want.detach().numpy().dtype, copy=False)
        if not np.isfinite(narrowed).all():
            raise FedliteError(f"array {name}: not finite")


def count_bytes(messages: Iterable[Message]) -> int:
    """Payload bytes of the messages' records; an error reply counts nothing.

    What many messages carry alike is sent with each of them, and looked at once.
    """
    contents = [message.content for message in messages if message.has_content()]
    looked_at = {i: _content_bytes(one) for i, one in {id(one): one for one in contents}.items()}
    return sum(looked_at[id(content)] for content in contents)


def _content_bytes(content: RecordDict) -> int:
    return sum(
        record.count_bytes()
        if isinstance(record, ArrayRecord)  # Flower's count fails on an empty text in the others
        else recorddict_to_proto(RecordDict({"record": record})).ByteSize()
        for record in content.values()
    )
