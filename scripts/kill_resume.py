"""Kill -9 at random moments, then resume: does every run end as the unbroken one?

    python scripts/kill_resume.py [--runs 10] [--seed 0] [--output FILE.json] [override ...]

Deterministic mode: one unbroken run, then runs that are killed at a moment drawn uniformly over its
duration and resumed; models, ONNX files, epsilons, ledgers and metrics must have the same bits.
Private mode: the same kills; at the kill and at the end no ledger may hold less than one charge for
each finished round, and no charge may ever vanish. Exit code 1 on any difference.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fedlite.base.files import read_json
from fedlite.base.tensors import load_tensors, state_sha256
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.privacy.ledger_folder import STORE_FILE
from fedlite.runs.front import MAIN_LINE

FEDLITE = [sys.executable, "-m", "fedlite", "simulate"]
SMALL = (
    "federation.num_clients=6",
    "federation.rounds=8",
    "teacher.epochs=6",
    "teacher.kwargs.channels=[8,16,16]",
    "teacher.kwargs.hidden=32",
    "teacher.cache_dir=null",  # the teacher is trained anew, so that kills hit it too
    "distill.warm_start.epochs=10",
    "compress.recovery_steps=60",
    "compress.measure.runs=20",
    "compress.measure.warmup=2",
    "tracking.progress=false",
)


def start(run_dir: Path, overrides: list[str]) -> subprocess.Popen[str]:
    """Start (or resume) a run in a process group of its own."""
    command = [*FEDLITE, *SMALL, *overrides, f"run.dir={run_dir}", "run.resume=true"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(run_dir: Path, overrides: list[str]) -> float:
    """Run to the end; its seconds."""
    started = time.perf_counter()
    process = start(run_dir, overrides)
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{run_dir}: exit code {process.returncode}: {said.strip()}")
    return time.perf_counter() - started


def kill_at(run_dir: Path, overrides: list[str], moment: float) -> bool:
    """Start a run and kill it with -9 after ``moment`` seconds; False if it had ended by itself."""
    process = start(run_dir, overrides)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode == -signal.SIGKILL


def finished_rounds(run_dir: Path) -> int:
    """Rounds in the checkpoint."""
    path = run_dir / "checkpoint.pt"
    return load_checkpoint(path).round if path.exists() else 0


def where_it_was(run_dir: Path) -> str:
    """The stage that was under way, in words."""
    if not (run_dir / "state.json").exists():
        return "start"
    done = read_json(run_dir / "state.json")["stages"]
    for stage in MAIN_LINE:
        if stage not in done:
            rounds = f", round {finished_rounds(run_dir) + 1}" if stage == "federate" else ""
            return stage + rounds
    return "end"


def ledger_lines(run_dir: Path) -> dict[str, list[str]]:
    """The charges of every ledger, as they are written; a cut-off last line is none yet."""
    store = run_dir / "ledgers" / STORE_FILE
    if not store.exists():
        return {}
    header, *lines = store.read_text().rpartition("\n")[0].splitlines()
    ledgers: dict[str, list[str]] = {one: [] for one in json.loads(header)["entry"]["data_sets"]}
    for line in lines:
        ledgers[json.loads(line)["entry"]["data_set"]].append(line)
    return ledgers


def charged_rounds(run_dir: Path) -> dict[str, list[int]]:
    """The rounds that every ledger was charged for, in order."""
    ledgers = ledger_lines(run_dir).items()
    return {name: [json.loads(x)["entry"]["round"] for x in lines] for name, lines in ledgers}


def result_of(run_dir: Path) -> dict[str, Any]:
    """Everything that must have the same bits in deterministic mode."""
    report = read_json(run_dir / "report.json")
    rounds = load_checkpoint(run_dir / "checkpoint.pt").history
    onnx = sorted([*(run_dir / "models").glob("*.onnx"), run_dir / "deploy" / "student.onnx"])
    kept = ("accuracy", "macro_f1", "parameters", "bytes")
    return {
        "federated_student": state_sha256(load_tensors(run_dir / "federated_student.pt")),
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in onnx},
        "epsilons": [one.epsilons for one in rounds],
        "units": report["privacy"]["units"],
        "rounds": [one["evaluation"] for one in report["history"]],
        "models": {m: [facts[k] for k in kept] for m, facts in report["models"].items()},
        "ledgers": charged_rounds(run_dir),
    }


def lost_charges(run_dir: Path, at_kill: dict[str, list[str]], rounds_at_kill: int) -> list[str]:
    """What the ledgers of a resumed private run lack, in words."""
    problems, now = [], ledger_lines(run_dir)
    for name, lines in at_kill.items():
        if now.get(name, [])[: len(lines)] != lines:
            problems.append(f"{name}: a charge vanished")
        charged = {json.loads(line)["entry"]["round"] for line in lines}
        if not charged >= set(range(1, rounds_at_kill + 1)):
            problems.append(f"{name}: finished rounds without a charge at the kill")
    if rounds_at_kill and not at_kill:
        problems.append("no ledger at the kill")
    charged_by_client = charged_rounds(run_dir).values()
    for one in read_json(run_dir / "report.json")["history"]:
        holders = sum(one["round"] in charged for charged in charged_by_client)
        if holders < one["clients_trained"]:
            problems.append(f"round {one['round']}: fewer charges than clients that trained")
    return problems


def main() -> None:
    """Both modes; a line for each run; exit code 1 on any difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a JSON file")
    options, extra = parser.parse_known_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    moments = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("deterministic", "secure"):
            overrides = [*extra, f"privacy.randomness={mode}"]
            unbroken = Path(folder) / f"{mode}-unbroken"
            seconds = finish(unbroken, overrides)
            expected = result_of(unbroken)
            print(f"\n{mode}: the unbroken run takes {seconds:.1f} s", flush=True)
            print(f"{'run':>4}{'killed at':>11}  {'during':<22}{'resumed in':>10}  result")
            for number in range(1, options.runs + 1):
                run_dir = Path(folder) / f"{mode}-{number}"
                moment = moments.uniform(0, seconds)
                killed = kill_at(run_dir, overrides, moment)
                during = where_it_was(run_dir) if killed else "ended before"
                rounds, ledgers = finished_rounds(run_dir), ledger_lines(run_dir)
                resumed = finish(run_dir, overrides)
                if mode == "deterministic":
                    found = result_of(run_dir)
                    problems = [f"{key} differ" for key in expected if found[key] != expected[key]]
                else:
                    problems = lost_charges(run_dir, ledgers, rounds)
                good = "same bits" if mode == "deterministic" else "no charge lost"
                verdict = "; ".join(problems) or good
                print(f"{number:>4}{moment:>9.1f} s  {during:<22}{resumed:>8.1f} s  {verdict}")
                sys.stdout.flush()
                row = {"mode": mode, "killed_at": moment, "during": during}
                rows.append({**row, "ok": not problems, "verdict": verdict})
    failed = sum(not row["ok"] for row in rows)
    print(f"\n{len(rows) - failed} of {len(rows)} runs as they should be")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
