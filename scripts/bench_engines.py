"""Seconds per round of the same Flower apps on each engine, and of a bare loop of the same steps.

    python scripts/bench_engines.py [--rounds 20] [--cases bare inprocess-0 ...] [override ...]

Every case runs in a fresh process, one after the other, on the same data, weights and plan. Its
start-up (imports aside: reading data, starting workers, sending the teacher, its logits, the first
round) is reported apart from the steady state: the median of the later rounds. The bare loop calls
the training of a client (fedlite.federation.training.train_client) on each and averages: no
message, no ledger, no checkpoint. Overrides are those of `fedlite simulate`. With --record the
figures are in docs/benchmarks.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from record import record_run
from rounds_alone import federate_alone

from fedlite.base.errors import FedliteError
from fedlite.base.logs import route_logs
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.data.splits import Splits
from fedlite.distill.answers import taught_answers
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.federation.messages import State
from fedlite.federation.plans import build_plan
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.workbench import TrainedPart
from fedlite.models.build import build_model, load_state
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of

CASES = ("bare", "inprocess-0", "inprocess-2", "ray")
ENGINES = {
    "inprocess-0": ("engine=inprocess", "engine.num_workers=0"),
    "inprocess-2": ("engine=inprocess", "engine.num_workers=2"),
    "ray": ("engine=ray", "engine.num_workers=2"),
}
Seconds = dict[str, float]


def run_case(case: str, overrides: list[str], noise_multiplier: float) -> Seconds:
    """Run all rounds of one case in this process; seconds of start-up and of a steady round."""
    torch.set_num_threads(1)
    route_logs(None)
    overrides = [*overrides, f"privacy.noise_multiplier={noise_multiplier}"]
    config = compose_config([*overrides, *ENGINES.get(case, ())])
    started = time.perf_counter()
    splits = splits_of(config)
    plan = build_plan(config.privacy, config.federation, splits.client_sizes())
    rounds = _bare_rounds(config, splits, plan) if case == "bare" else _rounds(config, splits)
    whole = time.perf_counter() - started
    steady = {key: statistics.median(one[key] for one in rounds[1:]) for key in rounds[0]}
    startup = whole - steady["total"] * (len(rounds) - 1)
    return {"startup": startup, "round": steady["learn"], "round_with_rest": steady["total"]}


def _rounds(config: Config, splits: Splits) -> list[Seconds]:
    """The Flower apps on the configured engine."""
    task, records = splits.task, []
    probe = build_model(config.student, task, config.seed)

    def evaluate(state: State) -> Evaluation:
        load_state(probe, state, where="student")
        return evaluate_model(probe, splits.test, task.num_classes)

    def keep(record: RoundRecord) -> None:
        learn = record.seconds["train"] + record.seconds["aggregate"]
        records.append({"learn": learn, "total": record.seconds["total"]})
        if record.clients_trained != splits.num_clients:
            raise FedliteError(f"round {record.round}: only {record.clients_trained} trained")

    with tempfile.TemporaryDirectory() as folder:
        federate_alone(config, splits, Path(folder) / "run", evaluate, keep)
    return records


def _bare_rounds(config: Config, splits: Splits, plan: PrivacyPlan) -> list[Seconds]:
    """The same steps on the same clients, without Flower, ledgers, evaluation and checkpoints."""
    task, seconds = splits.task, []
    student = build_model(config.student, task, config.seed)
    teacher = build_model(config.teacher, task, config.seed).eval()
    loss, federation = build_loss(config.distill), config.federation
    clients = [splits.client(i) for i in range(splits.num_clients)]
    parts = [
        TrainedPart(
            student,
            TaughtExamples(loss, one.inputs, one.labels, taught_answers(teacher, one.inputs)),
            len(one),
        )
        for one in clients
    ]
    work = LocalWork(
        plan.steps,
        plan.sample_rate,
        plan.expected_batch_size,
        federation.learning_rate,
        federation.momentum,
        gradients=config.privacy.gradients,
    )
    state = {name: value.clone() for name, value in student.state_dict().items()}
    for _ in range(federation.rounds):
        started = time.perf_counter()
        total = {name: torch.zeros_like(value) for name, value in state.items()}
        for part in parts:
            student.load_state_dict(state)
            train_client(student, part, work, plan, SecureRandomness())
            for name, value in student.state_dict().items():
                total[name] += value
        state = {name: value / len(clients) for name, value in total.items()}
        spent = time.perf_counter() - started
        seconds.append({"learn": spent, "total": spent})
    return seconds


def main() -> None:
    """Run the cases, print the table of ratios, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options, overrides = parser.parse_known_args()
    if options.rounds < 3:
        parser.error("--rounds: at least 3, since the first round belongs to the start-up")
    counts = [f"federation.num_clients={options.clients}", f"federation.rounds={options.rounds}"]
    overrides = [*counts, *overrides]

    config = compose_config(overrides)
    splits = splits_of(config)
    plan = build_plan(config.privacy, config.federation, splits.client_sizes())
    noise_multiplier = plan.noise_multiplier  # calibrated once for all
    results: dict[str, Seconds] = {}
    spawn = multiprocessing.get_context("spawn")
    for case in options.cases:
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            results[case] = fresh.submit(run_case, case, overrides, noise_multiplier).result()
        print(f"{case}: done", file=sys.stderr, flush=True)

    reference = "inprocess-0" if "inprocess-0" in results else options.cases[0]
    columns = ("start-up", "round", "round, all", f"x {reference}")
    print(f"{options.clients} clients, {options.rounds} rounds, {os.cpu_count()} cores; seconds")
    print(f"{'case':<14}" + "".join(f"{column:>15}" for column in columns))
    for case, found in results.items():
        ratio = found["round"] / results[reference]["round"]
        cells = (found["startup"], found["round"], found["round_with_rest"], ratio)
        print(f"{case:<14}" + "".join(f"{cell:>15.3f}" for cell in cells))
    print("round: training and aggregation; all: with evaluation and checkpoint (bare has neither)")
    if options.record:
        record_run("engines", results)
    if options.output:
        facts = {"overrides": overrides, "cores": os.cpu_count(), "seconds": results}
        options.output.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except FedliteError as error:
        print(f"bench_engines: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
