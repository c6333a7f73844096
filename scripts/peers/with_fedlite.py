"""fedlite on the same work: its messages, checks, ledgers, checkpoints, and its server.

    python with_fedlite.py

As `fedlite federate` runs it, but for a teacher, who is not trained (the loss looks at labels
alone), and for the test set, which no peer looks at.
"""

import sys
import tempfile
from pathlib import Path

from work import Clock, Work, flat

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rounds_alone import federate_alone

from fedlite.base.logs import route_logs
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.federation.messages import State
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from fedlite.runs.splits import splits_of


def main() -> None:
    """Run all rounds."""
    work, clock = Work.given(), Clock()
    route_logs(None)
    config = compose_config(options(work))
    splits = splits_of(config)

    def evaluate(state: State) -> Evaluation:
        return Evaluation(0.0, 0.0, 0.0)

    def on_round(record: RoundRecord) -> None:
        if not clock.running:
            clock.mark(ago=record.seconds["total"])
        clock.mark()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        federation = federate_alone(config, splits, folder, evaluate, on_round)
    if any(record.clients_failed for record in federation.history):
        raise SystemExit("a client failed")
    model = build_model(config.student, splits.task, config.seed)
    first = flat(model)
    model.load_state_dict(federation.result)
    clock.tell(flat(model) - first)


def options(work: Work) -> list[str]:
    """The work as overrides of `fedlite federate`."""
    private = work.noise_multiplier is not None
    each = len(work.examples()[1][0])
    return [
        "dataset=npz",
        f"dataset.root={work.folder}",
        "dataset.files.data=fedlite.npz",
        "dataset.keys.inputs_test=x_test",
        "dataset.keys.labels_test=y_test",
        "dataset.public_size=20",
        f"student={work.student}",
        "distill=hard",
        "distill.alpha=1",
        "federation=fedavg",
        "federation.ema_decay=0",
        f"federation.num_clients={work.clients}",
        f"federation.rounds={work.rounds}",
        f"federation.learning_rate={work.learning_rate}",
        f"privacy.unit={'example' if private else 'none'}",
        "privacy.epsilon=null",
        f"privacy.noise_multiplier={work.noise_multiplier if private else 'null'}",
        f"privacy.max_grad_norm={work.max_grad_norm}",
        f"privacy.sample_rate={work.batch_size / each}",
        f"privacy.expected_examples={each}",
        f"engine.num_workers={work.workers if work.workers > 1 else 0}",
    ]


if __name__ == "__main__":
    main()
