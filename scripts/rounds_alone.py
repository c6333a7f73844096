"""The rounds of `fedlite federate` by themselves, for what times them: no teacher is trained.

Data, ledgers, messages, checks, checkpoints and the server are those of a run.
"""

from collections.abc import Callable
from pathlib import Path

from fedlite.base.records import Evaluation, RoundRecord
from fedlite.data.splits import Splits
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.ledgers import divide, hold_ledgers, sync_cohort
from fedlite.federation.messages import State
from fedlite.federation.plans import build_plan
from fedlite.federation.rounds import Federation
from fedlite.federation.simulation import SIMULATION, shared_world
from fedlite.federation.transport.engines import run_federation
from fedlite.models.build import build_model
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import client_options, simulation_options


def federate_alone(
    config: Config,
    splits: Splits,
    folder: Path,
    evaluate: Callable[[State], Evaluation],
    on_round: Callable[[RoundRecord], None],
) -> Federation:
    """Run all rounds, from first weights of student and teacher.

    What they keep lies in ``folder``, the log beside it.

    Args:
        config: without client-level privacy.
        splits: its data.
        evaluate: the student, in the rounds that ask for it.
        on_round: is told every round.
    """
    ledgers, privacy, name = folder / "ledgers", config.privacy, config.dataset.name
    sizes = splits.client_sizes()
    student, teacher = (
        build_model(one, splits.task, config.seed) for one in (config.student, config.teacher)
    )
    federation = Federation(
        options=config.federation,
        seed=config.seed,
        run_id="bench",
        num_clients=len(sizes),
        plan=build_plan(privacy, config.federation, sizes) if privacy.example_level else None,
        client_plan=None,
        server_ledger=None,
        student=dict(student.state_dict()),
        teacher=dict(teacher.state_dict()),
        evaluate=evaluate,
        on_round=on_round,
        checkpoint_path=folder / "checkpoint.pt",
        evaluate_every=config.tracking.evaluate_every,
        sync_ledgers=lambda asked: sync_cohort(ledgers, privacy, name, asked),
    )
    simulation = simulation_options(config, folder / "nodes", ledgers)
    run_config = {
        CLIENT_OPTIONS: client_options(config, splits.task).to_json(),
        SIMULATION: simulation.to_json(),
    }
    with (
        shared_world(simulation, splits),
        hold_ledgers(simulation, divide(splits, privacy, name)),
    ):
        run_federation(federation, config.engine, run_config, folder.with_suffix(".log"))
    return federation
