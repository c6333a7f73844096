"""Retraining the student at a run's plan, on data whose membership is the audit's own choice.

The server's loop, its strategy, the moving average and a client's training are those of the run;
only the clients' data differ. They come from the server's test part: no client's data are touched,
so an audit charges no ledger, and may train without privacy for comparison.
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

from fedlite.audit.audited import Audited
from fedlite.audit.dirac import sum_level
from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation
from fedlite.base.tensors import state_sha256
from fedlite.distill.answers import Answers
from fedlite.distill.loss import build_loss, example_losses
from fedlite.federation.client import PARTITION_ID
from fedlite.federation.messages import ARRAYS, CONFIG, State, to_arrays, to_state, trained_reply
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.transport.grid import InProcessGrid
from fedlite.federation.workbench import TrainedPart
from fedlite.models.build import frozen_names, load_state
from fedlite.privacy.ledger import Ledger, create_ledgers
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import make_randomness


@dataclass(frozen=True)
class Candidates:
    """Examples whose membership the audit decides, dealt to the clients of a reduced cohort.

    ``inputs`` (m, ...), ``labels`` (m,), ``taught`` the teacher's answers on them, ``owners`` (m,)
    client ids.
    """

    inputs: Tensor
    labels: Tensor
    taught: Answers
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

    config: Audited
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
        config, plans = self.config, self.plans if private else Plans()
        ledger = Ledger(self.directory / f"audit-{number}.ledger", "audit", sync=False)
        if plans.client is not None:
            create_ledgers([ledger])
        federation = Federation(
            options=self._reduced(),
            seed=config.seed,
            run_id=f"audit-{number}",
            num_clients=self.candidates.num_clients,
            plan=None,  # a client's noise is the audit's business; the server adds none of it
            client_plan=plans.client,
            server_ledger=ledger,
            frozen=frozen_names(self.student),
            student=self.start,
            teacher={},
            evaluate=lambda state: Evaluation(0.0, 0.0, 0.0),
            on_round=lambda record: None,
            checkpoint_path=self.directory / f"audit-{number}.pt",
            evaluate_every=self.rounds,
            secret_cohort=plans.client is not None and config.privacy.randomness == "secure",
            quiet=config.privacy.trust == "aggregate",
        )
        app = self._client_app(members, number, plans.example)
        run_rounds(InProcessGrid(app, self.candidates.num_clients, {}), federation)
        federation.checkpoint_path.unlink()
        if any(record.clients_failed for record in federation.history):
            raise FedliteError("audit: a client failed while a student was retrained; see the log")
        return federation.result

    def _reduced(self) -> FederationOptions:
        """The run's options with few clients, all of whom take part in ``rounds`` rounds."""
        federation = dataclasses.replace(
            self.config.federation, num_clients=self.candidates.num_clients, rounds=self.rounds
        )
        if self.plans.client is None:  # else sampling is a part of what is claimed
            federation = dataclasses.replace(federation, fraction=1.0)
        return federation

    def _client_app(
        self, members: NDArray[np.bool_], number: int, plan: PrivacyPlan | None
    ) -> ClientApp:
        """Clients that hold the ``members`` and train as the run's clients do."""
        config, student, candidates = self.config, self.student, self.candidates
        mode = config.privacy.randomness if plan else "deterministic"
        loss, local = build_loss(config.distill), config.federation
        work = LocalWork(
            local.local_steps,
            config.privacy.sample_rate,
            config.privacy.sample_rate * self.nominal,
            local.learning_rate,
            local.momentum,
        )
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
            losses = example_losses(
                loss, candidates.inputs[rows], candidates.labels[rows], candidates.taught[rows]
            )
            randomness = make_randomness(
                mode, config.seed, "audit-local-steps", number, client, server_round
            )
            part = TrainedPart(student, losses, int(rows.sum()))
            state = train_client(student, part, work, plan, randomness)
            return trained_reply(message, to_arrays(state), 0.0)

        return app
