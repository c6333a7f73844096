"""fedlite on the same work: its messages, checks, ledgers, checkpoints, and its server.

    python with_fedlite.py

As `fedlite federate` runs it, but for a teacher, who is not trained (the loss looks at labels
alone), and for the test set, which no peer looks at.
"""

import tempfile
from pathlib import Path

from work import Clock, Work, flat

from fedlite.base.logs import route_logs
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.ledgers import divide, hold_ledgers, sync_cohort
from fedlite.federation.plans import Plans
from fedlite.federation.rounds import Federation
from fedlite.federation.simulation import SIMULATION, shared_world
from fedlite.federation.transport.engines import run_federation
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.federate import client_options, simulation_options


def main() -> None:
    """Run all rounds."""
    work, clock = Work.given(), Clock()
    route_logs(None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = compose_config(options(work))
        privacy, name = config.privacy, config.dataset.name
        splits = splits_of(config)
        ledgers = folder / "ledgers"
        model = build_model(config.student, splits.task, config.seed)
        plans = Plans()
        if privacy.private:
            plans = Plans.build(privacy, config.federation, splits.client_sizes())

        def evaluate(state: dict) -> Evaluation:
            return Evaluation(0.0, 0.0, 0.0)

        def on_round(record: RoundRecord) -> None:
            if not clock.running:
                clock.mark(ago=record.seconds["total"])
            clock.mark()

        federation = Federation(
            options=config.federation,
            seed=config.seed,
            run_id="bench",
            num_clients=work.clients,
            plan=plans.example,
            client_plan=None,
            server_ledger=None,
            student={key: value.clone() for key, value in model.state_dict().items()},
            teacher=dict(build_model(config.teacher, splits.task, config.seed).state_dict()),
            evaluate=evaluate,
            on_round=on_round,
            checkpoint_path=folder / "checkpoint.pt",
            evaluate_every=work.rounds,
            sync_ledgers=lambda asked: sync_cohort(ledgers, privacy, name, asked),
        )
        simulation = simulation_options(config, folder / "nodes", ledgers)
        run_config = {
            CLIENT_OPTIONS: client_options(config, splits.task).to_json(),
            SIMULATION: simulation.to_json(),
        }
        division = divide(splits, privacy, name)
        with shared_world(simulation, splits), hold_ledgers(simulation, division):
            run_federation(federation, config.engine, run_config, folder / "log")
        if any(record.clients_failed for record in federation.history):
            raise SystemExit("a client failed")
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
