"""A device and its owner's files, and a server that sends it what it likes: real messages."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto

from fedlite.base.tensors import state_sha256
from fedlite.data.types import Normalise, Task
from fedlite.distill.options import LossOptions
from fedlite.federation.client_app import app
from fedlite.federation.client_options import CLIENT_OPTIONS, ClientOptions
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    HELLO,
    TEACHER,
    TRAIN,
    State,
    TrainRequest,
    to_arrays,
    to_state,
)
from fedlite.federation.transport.grid import InProcessGrid
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.plan import PrivacyPlan
from tests.privacy.world import begun, make_plan

FEATURES = 3
TASK = Task(
    name="wards",
    input_shape=(FEATURES,),
    class_names=("healthy", "ill"),
    preprocessing=Normalise(scale=10.0, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5)),
    metric="accuracy",
    example="one patient",
)
NETWORK = ModelOptions("mlp", "fedlite.models.mlp.MLP", {"hidden": [4]})
OPTIONS = ClientOptions(
    task=TASK,
    teacher=NETWORK,
    student=NETWORK,
    loss=LossOptions(),
    unit="example",
    sample_rate=0.5,
    local_steps=1,
    learning_rate=0.2,
    momentum=0.0,
    seed=0,
)
PLAN = make_plan(
    epsilon=50.0, noise_multiplier=1.0, sample_rate=0.5, expected_examples=10, randomness="secure"
)
RULES = "data_set: ward-7\nmax_epsilon: 50\n"
DATA = """data:
  file: own.npz
  input_shape: [3]
  class_names: [healthy, ill]
  scale: 10
  mean: [0.5, 0.4, 0.3]
  std: [0.25, 0.25, 0.5]
"""


SECRETS = ("Zaphod", "hypochondria", "31337", "records-of-7", "ward-7")
NOTHING = RULES + "units: []\n"


def patients(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw inputs (count, 3) and labels (count,)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 10, (count, FEATURES)), rng.integers(0, 2, count)


def write_examples(path: Path, inputs: np.ndarray, labels: np.ndarray) -> None:
    """The archive that ``DATA`` describes."""
    np.savez(path, inputs=inputs, labels=labels)


class Ward:
    """One device. Its files lie in ``folder``; what a server may change is an argument.

    Args:
        rules: the policy's own lines, before those of ``data``.
        node: more of the node config, which the owner writes.
        run: more of the run config, which the server writes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rules: str = RULES,
        data: str = DATA,
        node: Mapping[str, Any] | None = None,
        run: Mapping[str, str] | None = None,
        options: ClientOptions = OPTIONS,
    ) -> None:
        InProcessGrid(app, 0, {})  # Flower makes no message in a process that belongs to no run
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "policy.yaml").write_text(rules + data)
        begun(LedgerFile(folder / "ward-7.ledger", "ward-7"))
        self.context = Context(
            run_id=1,
            node_id=7,
            node_config={"partition-id": 0, "policy": str(folder / "policy.yaml"), **(node or {})},
            state=RecordDict(),
            run_config={CLIENT_OPTIONS: options.to_json(), **(run or {})},
        )
        self.student = build_model(NETWORK, TASK, seed=0).state_dict()
        self.teacher = build_model(NETWORK, TASK, seed=1).state_dict()
        self.sha256 = state_sha256(self.teacher)

    def ask(self, message: Message) -> Message:
        """What the app itself answers, with no engine around it."""
        message.metadata.__dict__["_message_id"] = "message-1"
        return app(message, self.context)

    def hello(self) -> Message:
        """The first message of every run."""
        return Message(RecordDict(), 7, HELLO)

    def teach(self) -> Message:
        """The message that carries the teacher."""
        config = ConfigRecord({"sha256": self.sha256})
        return Message(RecordDict({ARRAYS: to_arrays(self.teacher), CONFIG: config}), 7, TEACHER)

    def request(
        self, server_round: int = 1, plan: PrivacyPlan | None = PLAN, **more: Any
    ) -> Message:
        """A train message; ``more`` replaces fields of the plan."""
        config = TrainRequest.config("run-a", self.sha256, replace(plan, **more) if plan else None)
        config["server-round"] = server_round
        return Message(RecordDict({ARRAYS: to_arrays(self.student), CONFIG: config}), 7, TRAIN)

    def trained(self, server_round: int = 1, **more: Any) -> State:
        """The student that comes back; the teacher is sent before."""
        assert not self.ask(self.teach()).has_error()
        reply = self.ask(self.request(server_round, **more))
        assert not reply.has_error(), reply.error.reason
        assert reply.content.array_records, dict(reply.content.config_records["report"])
        return to_state(reply.content.array_records[ARRAYS])

    def charges(self) -> int:
        """How many charges the device's ledger holds."""
        return len(LedgerFile(self.folder / "ward-7.ledger", "ward-7").entries())


def changed(options: ClientOptions, **changes: Any) -> str:
    """Options as a server may send them, checked by nobody."""
    return json.dumps(json.loads(options.to_json()) | changes)


def told(reply: Message) -> Any:
    """All that a reply tells beside the noised arrays."""
    if reply.has_error():
        return ("error", reply.error.code, reply.error.reason)
    kept = {k: dict(v) for k, v in reply.content.items() if k != ARRAYS}
    return kept, list(reply.content.array_records.get(ARRAYS, {}))


def check_no_secret(reply: Message) -> None:
    """Of what goes over the wire nothing is one of ``SECRETS``."""
    wire = message_to_proto(reply).SerializeToString()
    assert not [word for word in SECRETS if word.encode() in wire], "a private value is told"
