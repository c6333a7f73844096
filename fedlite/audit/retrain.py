"""Retraining the student at a run's plan, on data whose membership is the audit's own choice.

The server's loop, its strategy, the moving average and ``train_steps`` are those of the run; only
the clients' data differ. They come from the server's test part: no client's data are touched, so
an audit charges no ledger, and may train without privacy for comparison.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import Tensor, nn

from fedlite.audit.dirac import sum_level
from fedlite.config import Config
from fedlite.distill.losses import build_loss
from fedlite.errors import FedliteError
from fedlite.federation.grid import InProcessGrid
from fedlite.federation.messages import ARRAYS, CONFIG, State, to_state, trained_reply
from fedlite.federation.node import PARTITION_ID
from fedlite.federation.server_app import Federation, run_rounds
from fedlite.files import state_sha256
from fedlite.models.build import frozen_names, load_state
from fedlite.plans import Plans
from fedlite.privacy import Ledger, PrivacyPlan, make_randomness, train_steps
from fedlite.records import Evaluation


@dataclass(frozen=True)
class Candidates:
    """Examples whose membership the audit decides, dealt to the clients of a reduced cohort.

    ``inputs`` (m, ...), ``labels`` (m,), ``taught`` (m, classes), ``owners`` (m,) client ids.
    """

    inputs: Tensor
    labels: Tensor
    taught: Tensor
    owners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_clients(self) -> int:
        """Clients of the reduced cohort."""
        return int(self.owners.max()) + 1


@dataclass(frozen=True)
class Retraining:
    """What all retrained students share: the run's options and plans, and where they start.

    Args:
        config: of the run.
        plans: of the run; a unit that is not protected has none.
        rounds: how many a client takes part in.
        nominal: public number of examples that the plan counts on in a client.
        student: the network; its weights are replaced.
        start: the state before round 1.
        candidates: the examples.
        directory: for the server's checkpoints and ledgers, removed by the caller.
    """

    config: Config
    plans: Plans
    rounds: int
    nominal: int
    student: nn.Module
    start: State
    candidates: Candidates
    directory: Path

    def train(self, members: NDArray[np.bool_], number: int, *, private: bool) -> State:
        """The student that a reduced federation makes of the candidates that are ``members``.

        Args:
            members: (m,) which candidates are in the data.
            number: of this model; the draws of a deterministic run follow from it.
            private: False leaves clipping and noise out, on the same steps and sampling.

        Raises:
            FedliteError: a client failed.
        """
        config, plans = self._reduced(), self.plans if private else Plans()
        federation = Federation(
            config=config,
            run_id=f"audit-{number}",
            num_clients=self.candidates.num_clients,
            plan=None,  # a client's noise is the audit's business; the server adds none of it
            client_plan=plans.client,
            server_ledger=Ledger(self.directory / f"audit-{number}.ledger", "audit", sync=False),
            frozen=frozen_names(self.student),
            student=self.start,
            teacher={},
            evaluate=lambda state: Evaluation(0.0, 0.0, 0.0),
            on_round=lambda record: None,
            checkpoint_path=self.directory / f"audit-{number}.pt",
        )
        app = self._client_app(members, number, plans.example)
        run_rounds(InProcessGrid(app, self.candidates.num_clients, {}), federation)
        federation.checkpoint_path.unlink()
        if any(record.clients_failed for record in federation.history):
            raise FedliteError("audit: a client failed while a student was retrained; see the log")
        return federation.result

    def _reduced(self) -> Config:
        """The run's options with few clients, all of whom take part in ``rounds`` rounds."""
        federation = dataclasses.replace(
            self.config.federation, num_clients=self.candidates.num_clients, rounds=self.rounds
        )
        if self.plans.client is None:  # else sampling is a part of what is claimed
            federation = dataclasses.replace(federation, fraction=1.0)
        tracking = dataclasses.replace(self.config.tracking, evaluate_every=self.rounds)
        return dataclasses.replace(self.config, federation=federation, tracking=tracking)

    def _client_app(
        self, members: NDArray[np.bool_], number: int, plan: PrivacyPlan | None
    ) -> ClientApp:
        """Clients that hold the ``members`` and train as the run's clients do."""
        config, student, candidates = self.config, self.student, self.candidates
        mode = config.privacy.randomness if plan else "deterministic"
        loss, sample_rate = build_loss(config.distill), config.privacy.sample_rate
        if plan is not None and plan.trust == "aggregate":  # this cohort's sum gets all the noise
            share = plan.noise_multiplier / math.sqrt(candidates.num_clients)
            plan = dataclasses.replace(sum_level(plan), noise_multiplier=share)
        app = ClientApp()

        @app.query("hello")
        def hello(message: Message, context: Context) -> Message:
            client = context.node_config[PARTITION_ID]
            answer = ConfigRecord({"client-id": client, "teacher-sha256": state_sha256({})})
            return Message(RecordDict({CONFIG: answer}), reply_to=message)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            client = int(context.node_config[PARTITION_ID])
            server_round = int(str(message.content.config_records[CONFIG]["server-round"]))
            rows = torch.from_numpy(members & (candidates.owners == client))
            load_state(student, to_state(message.content.array_records[ARRAYS]), where="audit")
            train_steps(
                student,
                loss,
                candidates.inputs[rows],
                candidates.labels[rows],
                candidates.taught[rows],
                steps=config.federation.local_steps,
                sample_rate=sample_rate,
                expected_batch_size=sample_rate * self.nominal,
                learning_rate=config.federation.learning_rate,
                momentum=config.federation.momentum,
                randomness=make_randomness(
                    mode, config.seed, "audit-local-steps", number, client, server_round
                ),
                plan=plan,
            )
            return trained_reply(message, student.state_dict(), 0.0)

        return app
