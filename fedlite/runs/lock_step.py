"""The rounds of several classes of students in lock step, and the joins between them.

Each class goes on from its own checkpoint to the next join; a join's students lie in one file,
which the next rounds of every class go on from. So a run that is broken off anywhere goes on with
the same bits in deterministic mode, as the run of one student does.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from fedlite.base.records import JoinRecord
from fedlite.base.tensors import on_cpu
from fedlite.distill.join import join_students
from fedlite.federation.joins import JoinedStudent, Joins, load_joins, save_joins
from fedlite.models.build import load_state
from fedlite.privacy.randomness import derive_seed
from fedlite.report.progress import Progress
from fedlite.runs.class_jobs import of_class
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.stages.federate import Rounds, begun_rounds
from fedlite.runs.stages.table import run_stages


def run_together(
    pipelines: Mapping[str, Pipeline],
    joins_file: Path | None,
    stages: Sequence[str],
    again: str | None,
    progress: Progress,
) -> None:
    """Run stages of classes: one class after the other, but their rounds in lock step.

    Args:
        pipelines: the run of each class.
        joins_file: where joins are kept; None: the classes do not learn from each other.
        stages: names of the table, in order.
        again: a stage that is run although it is done.
        progress: shows how many joins are done.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.
    """
    at = stages.index("federate") if "federate" in stages else 0
    for name, pipeline in pipelines.items():
        with of_class(name):
            run_stages(pipeline, stages[:at], again)
    if "federate" in stages:
        _federate(pipelines, joins_file, progress)
        at += 1
    for name, pipeline in pipelines.items():
        with of_class(name):
            run_stages(pipeline, stages[at:], again)


def is_federated(pipeline: Pipeline) -> bool:
    """Whether all its rounds are done."""
    return pipeline.run.done("federate", pipeline.marks["federate"])


def _federate(
    pipelines: Mapping[str, Pipeline], joins_file: Path | None, progress: Progress
) -> None:
    """The stage ``federate`` of all classes; they join where there is a file for it."""
    waiting = {name: one for name, one in pipelines.items() if not is_federated(one)}
    for pipeline in (one for name, one in pipelines.items() if name not in waiting):
        pipeline.progress.skip("federate")
    if not waiting:
        return
    joins = Joins() if joins_file is None else load_joins(joins_file)
    with ExitStack() as stack:
        rounds = {
            name: stack.enter_context(begun_rounds(pipeline)) for name, pipeline in waiting.items()
        }
        if joins_file is None:
            for name, one in rounds.items():
                with of_class(name):
                    one.go_on()
        else:
            joins = _in_lock_step(rounds, joins, joins_file, progress)
    for name, one in rounds.items():
        pipeline, joined = one.pipeline, joins.students.get(name)
        last = joined if joined and joined.round == len(one.federation.history) else None
        with pipeline.run.stage("federate", pipeline.marks["federate"], one.seconds) as facts:
            facts |= one.concluded(last.state if last else None)


def _in_lock_step(
    rounds: Mapping[str, Rounds], joins: Joins, file: Path, progress: Progress
) -> Joins:
    """Run the rounds of all classes, with a join after every ``join.every`` rounds and the last.

    Returns:
        the joins, the last one's students among them.
    """
    federation = next(iter(rounds.values())).pipeline.config.federation
    last, every = federation.rounds, federation.join.every
    stops = [*range(every, last, every), last]
    with progress.stage("join classes", total=len(stops)) as bar:
        for stop in stops:
            for name, one in rounds.items():
                with of_class(name):
                    one.go_on(stop, joins.students.get(name))
            if joins.round < stop:
                joins = _joined(rounds, joins, stop)
                save_joins(file, joins)
            bar.advance()
    return joins


def _joined(rounds: Mapping[str, Rounds], joins: Joins, number: int) -> Joins:
    """Let the classes learn from each other after round ``number``."""
    first = next(iter(rounds.values())).pipeline
    students = {}
    for name, one in rounds.items():
        students[name] = one.pipeline.build(one.pipeline.config.student).to(first.device)
        load_state(students[name], one.federation.result, where=f"student of class {name}")
    found = join_students(
        students,
        first.splits.public,
        first.splits.public_validation,
        first.config.federation.join,
        first.config.dataset.augment,
        first.config.dataset.metric,
        derive_seed(first.config.seed, "join", number),
    )
    goes_on, history = {}, list(joins.history)
    for name, joined in found.items():
        finished = len(rounds[name].federation.history)
        if joined.student is not None:
            goes_on[name] = JoinedStudent(finished, on_cpu(joined.student.state_dict()))
        elif name in joins.students and joins.students[name].round == finished:
            goes_on[name] = joins.students[name]  # its rounds have stopped before this join
        validation = joined.validation
        before, after = (None, None) if validation is None else validation.accuracies
        history.append(JoinRecord(number, name, joined.taken, before, after))
    return Joins(number, goes_on, history)
