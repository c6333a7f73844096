"""The benchmark of rounds runs, and tells what it promises."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--clients", "4", "6", "--cohort", "3", "--rounds", "4", "teacher.kwargs.channels=[8,8,8]")


def test_it_tells_the_cost_of_a_round_and_its_parts_by_clients() -> None:
    script = ROOT / "scripts" / "bench_rounds.py"
    done = subprocess.run(
        [sys.executable, str(script), *TINY], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    rows = {line[:20].strip(): line[20:].split() for line in done.stdout.splitlines()[1:]}
    assert rows["clients"][:2] == ["4", "6"]
    assert all(float(value) > 0 for row in ("start", "round") for value in rows[row])
    assert rows["files"] == [
        "6",
        "6",
    ]  # ledgers and their mark; checkpoint, teacher, division, lock
    shares = {part: float(row[0].rstrip("%")) for part, row in rows.items() if row[0][-1] == "%"}
    assert shares["noise"] > 0
    assert shares["checkpoint"] > 0
