"""A client without a server: real Flower messages to the real ClientApp, on embedded digits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from fedlite.federation.node import LEDGER_DIR, NODES_DIR, POLICY, RUN_CONFIG, open_ledger
from fedlite.privacy.dp_sgd import train_steps
from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor, nn

from fedlite.base.tensors import state_sha256
from fedlite.data.splits import load_splits
from fedlite.distill.losses import build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation.client_app import app
from fedlite.federation.messages import ARRAYS, CONFIG, TEACHER, TRAIN, TrainRequest, to_arrays
from fedlite.federation.plans import build_plan
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from fedlite.models.build import build_model
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness, Randomness
from fedlite.runs.config import Config


class ClientWorld:
    """All simulated clients of ``config`` behind an in-process grid, teacher already delivered.

    ``node_config`` is what the owner of each device sets, as on a SuperNode's command line.
    """

    def __init__(
        self, config: Config, directory: Path, node_config: Mapping[str, str | int] | None = None
    ) -> None:
        self.config, self.directory = config, directory
        self.splits = load_splits(
            config.dataset, config.partition, config.federation.num_clients, config.seed
        )
        task = self.splits.task
        self.plan = build_plan(config, self.splits.client_sizes()) if config.example_level else None
        self.student = build_model(config.student, task, seed=0)
        self.teacher = build_model(config.teacher, task, seed=1)
        self.teacher_sha256 = state_sha256(self.teacher.state_dict())
        run_config = {
            RUN_CONFIG: config.to_json(),
            NODES_DIR: str(directory / "nodes"),
            LEDGER_DIR: str(directory / "ledgers"),
        }
        if config.privacy.policy:
            run_config[POLICY] = config.privacy.policy
        self.grid = InProcessGrid(app, self.splits.num_clients, run_config)
        for context in self.grid.contexts.values():
            context.node_config.update(node_config or {})
        content = RecordDict(
            {
                ARRAYS: to_arrays(self.teacher.state_dict()),
                CONFIG: ConfigRecord({"sha256": self.teacher_sha256}),
            }
        )
        for node_id in self.grid.get_node_ids():
            (reply,) = self.grid.send_and_receive([Message(content, node_id, TEACHER)])
            assert not reply.has_error(), reply.error.reason

    def request(
        self, server_round: int, client_id: int = 0, run: str = "run-a", **changes: object
    ) -> Message:
        """A train message; ``changes`` replace fields of the plan."""
        plan = replace(self.plan, **changes) if self.plan and changes else self.plan
        config = TrainRequest.config(run, self.teacher_sha256, plan)
        config["server-round"] = server_round
        content = RecordDict({ARRAYS: to_arrays(self.student.state_dict()), CONFIG: config})
        return Message(content, FIRST_NODE_ID + client_id, TRAIN)

    def train(self, server_round: int, client_id: int = 0, **options: object) -> Message:
        """Send a train message and return the reply."""
        (reply,) = self.grid.send_and_receive([self.request(server_round, client_id, **options)])
        assert not reply.has_error(), reply.error.reason
        return reply

    def ledger(self, client_id: int = 0) -> Ledger:
        """The client's ledger."""
        return open_ledger(self.directory / "ledgers", self.config, client_id)


def make_plan(**changes: object) -> PrivacyPlan:
    """A plan for direct calls of the training code; noise is off unless asked for."""
    plan = PrivacyPlan(
        epsilon=8.0,
        delta=1e-5,
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        sample_rate=1.0,
        expected_examples=1,
        steps=1,
        max_participations=1,
        accountant="rdp",
        randomness="deterministic",
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def update_of(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    plan: PrivacyPlan,
    *,
    distill: DistillOptions | None = None,
    randomness: Randomness | None = None,
) -> Tensor:
    """Minus the change of all weights in one call of ``train_steps`` at learning rate 1.

    With one step, sample rate 1 and expected batch size 1 that is the noised sum of clipped
    gradients. ``model`` is left as it was.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        classes = model(inputs[:1]).shape[1]
    teacher_logits = torch.randn((64, classes), generator=generator)[: len(labels)]
    train_steps(
        model,
        build_loss(distill or DistillOptions()),
        inputs,
        labels,
        teacher_logits,
        steps=plan.steps,
        sample_rate=plan.sample_rate,
        expected_batch_size=plan.expected_batch_size,
        learning_rate=1.0,
        momentum=0.0,
        randomness=randomness or DeterministicRandomness(0),
        plan=plan,
    )
    moved = torch.cat([(before[n] - p.detach()).flatten() for n, p in model.named_parameters()])
    model.load_state_dict(before)
    return moved


def batch(shape: Sequence[int], count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random inputs (count, *shape) and labels of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn((count, *shape), generator=generator)
    return inputs, torch.randint(0, 10, (count,), generator=generator)
