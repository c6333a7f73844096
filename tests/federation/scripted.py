"""Clients that answer as a test tells them, behind a real grid and the real server."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlite.base.records import Evaluation
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    State,
    to_arrays,
    to_state,
    trained_reply,
)
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.federation.server_app import open_server_ledger
from fedlite.federation.transport.grid import InProcessGrid
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from tests.privacy.world import begun

Answer = Callable[[Message, State], Message]

STUDENT: State = {"weight": torch.zeros(2, 3), "bias": torch.ones(3)}
TEACHER: State = {"weight": torch.arange(4, dtype=torch.float32)}
TEACHER_BYTES = sum(value.nbytes for value in TEACHER.values())


def add(amount: float) -> Answer:
    """Answer the received student with ``amount`` added to every weight."""

    def answer(message: Message, state: State) -> Message:
        return trained_reply(message, to_arrays({k: v + amount for k, v in state.items()}), 0.5)

    return answer


class ScriptedClients:
    """One answer for each client; counts what the server asks of them."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = answers
        self.teachers_received: list[int] = []
        self.asked: list[tuple[int, int]] = []  # (round, client)
        self.app = ClientApp()
        self.app.query("hello")(self._hello)
        self.app.query("teacher")(self._teacher)
        self.app.train()(self._train)

    def grid(self) -> InProcessGrid:
        """A fresh grid of these clients."""
        return InProcessGrid(self.app, len(self.answers), {})

    def _hello(self, message: Message, context: Context) -> Message:
        answer = ConfigRecord({"client-id": _client_id(context)})
        if "teacher" in context.state:
            answer["teacher-sha256"] = context.state.config_records["teacher"]["sha256"]
        return Message(RecordDict({CONFIG: answer}), reply_to=message)

    def _teacher(self, message: Message, context: Context) -> Message:
        self.teachers_received.append(_client_id(context))
        context.state["teacher"] = message.content.config_records[CONFIG]
        return Message(RecordDict(), reply_to=message)

    def _train(self, message: Message, context: Context) -> Message:
        client_id = _client_id(context)
        server_round = message.content.config_records[CONFIG]["server-round"]
        assert isinstance(server_round, int)
        self.asked.append((server_round, client_id))
        return self.answers[client_id](message, to_state(message.content.array_records[ARRAYS]))


def _client_id(context: Context) -> int:
    return int(context.node_config["partition-id"])


def federation(
    directory: Path,
    num_clients: int,
    *overrides: str,
    plan: PrivacyPlan | None = None,
    client_plan: ClientPlan | None = None,
) -> Federation:
    """Two rounds for ``num_clients`` scripted clients."""
    named = any(override.startswith("federation=") for override in overrides)
    plain = [] if named else ["federation=fedavg"]
    config: Config = compose_config(
        [
            "privacy=none",
            f"federation.num_clients={num_clients}",
            "federation.rounds=2",
            "federation.ema_decay=0",
            *plain,
            *overrides,
        ]
    )
    return Federation(
        options=config.federation,
        seed=config.seed,
        run_id="run",
        num_clients=num_clients,
        plan=plan,
        client_plan=client_plan,
        server_ledger=begun(open_server_ledger(directory / "ledgers", config.dataset.name)),
        student=STUDENT,
        teacher=TEACHER,
        evaluate=lambda state: Evaluation(accuracy=float(state["bias"][0]), macro_f1=0, loss=0),
        on_round=lambda record: None,
        checkpoint_path=directory / "checkpoint.pt",
        evaluate_every=config.tracking.evaluate_every,
        secret_cohort=client_plan is not None and config.privacy.randomness == "secure",
        quiet=config.privacy.trust == "aggregate",
    )


def run_scripted(clients: ScriptedClients, made: Federation) -> Federation:
    """Run ``made`` with ``clients`` on a fresh grid."""
    grid = clients.grid()
    run_rounds(grid, made, grid)
    return made
