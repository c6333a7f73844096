"""Keeps the figures of a benchmark: one JSON line a run, in docs/benchmarks/NAME.jsonl.

Every `scripts/bench_*.py` does so when it is given `--record`.
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "benchmarks"
PATH = re.compile(r"(?:^|(?<==))[/~].*")  # an argument, or the value of one, that is a path


def record_run(name: str, figures: dict[str, Any]) -> None:
    """Append what this process measured, with when, on what and by which command.

    Args:
        name: of the benchmark, and of its file.
        figures: what it printed, as numbers by name; may be nested.
    """
    line = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "command": _command(sys.argv),
        "figures": _rounded(figures),
    }
    with (RECORDS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _commit() -> str:
    """The commit that is checked out, with a + if files differ from it; records do not count."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!docs/benchmarks")
    return commit + "+" * bool(changed)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _command(arguments: list[str]) -> str:
    """The command line without this machine's paths."""
    script, *rest = arguments
    names = [f"scripts/{Path(script).name}", *(PATH.sub("PATH", text) for text in rest)]
    return shlex.join(["python", *names])


def _rounded(value: Any) -> Any:
    """Four digits of every float: more of a time is chance."""
    if isinstance(value, dict):
        return {str(name): _rounded(one) for name, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
