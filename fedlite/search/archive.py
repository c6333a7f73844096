"""Keeping a search: trials.csv, HParams and pictures, and its section of the report."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fedlite.base.files import csv_text, write_whole
from fedlite.report.drawing import save_figure
from fedlite.report.schema import SearchMeasure, SearchSection
from fedlite.search import trial_charts
from fedlite.search.harness import TRIALS_FOLDER
from fedlite.search.result import SearchResult, one_line
from fedlite.search.trials import Limits, Outcome, Trial

CSV_FILE = "trials.csv"
MEASURES: tuple[SearchMeasure, ...] = get_args(SearchMeasure)


def write_search(result: SearchResult, directory: Path, root: Path) -> SearchSection:
    """Write ``trials.csv`` into ``directory`` and the pictures into ``root/pictures``.

    Args:
        result: a finished search.
        directory: of the search, below ``root``.
        root: the run directory.

    Returns:
        The section ``search`` of the report (docs/search.md).
    """
    write_whole(directory / CSV_FILE, trials_csv(result))
    drawn = {
        f"{result.kind}_search_trials": trial_charts.search_trials(result),
        f"{result.kind}_search_history": trial_charts.search_history(result),
    }
    for name, figure in drawn.items():
        save_figure(figure, root / "pictures" / f"{name}.png")
    limits = result.limits
    return {
        "kind": result.kind,
        "metric": result.metric,
        "trials": len(result.trials),
        "feasible": len(result.feasible),
        "failed": len(result.failed),
        "seconds": result.seconds,
        "chosen": result.chosen.options,
        "default": None if result.default is None else _measures(result.default),
        "best": _measures(result.best),
        "target": {
            "latency_ms": limits.latency_ms,
            "bytes": limits.bytes,
            "max_accuracy_drop": limits.max_accuracy_drop,
        },
        "reached": result.reached,
        "text": one_line(result),
        "trials_file": str((directory / CSV_FILE).relative_to(root)),
        "pictures": list(drawn),
    }


def trials_csv(result: SearchResult) -> str:
    """One row per trial: its options, what it came to, and what that is against the limits."""
    options = list(dict.fromkeys(name for one in result.trials for name in one.options))
    columns = ["trial", *options, *MEASURES, "verdict", "chosen", "seconds", "reason", "file"]
    rows = []
    for trial in result.trials:
        row: dict[str, object] = {"trial": trial.number, **trial.options}
        if trial.outcome is not None:
            row |= _measures(trial.outcome) | {"file": trial.outcome.file}
        row |= {
            "verdict": verdict(trial, result.limits),
            "chosen": trial is result.chosen,
            "seconds": round(trial.seconds, 3),
            "reason": trial.reason,
        }
        rows.append(row)
    return csv_text(rows, columns)


def verdict(trial: Trial, limits: Limits) -> str:
    """``within the limits``, ``over the limits`` or ``failed``."""
    if trial.outcome is None:
        return "failed"
    return "within the limits" if limits.feasible(trial) else "over the limits"


def log_trial(
    kind: str, limits: Limits, directory: Path, on_trial: Callable[[Trial], None] | None
) -> Callable[[Trial], None]:
    """What makes each finished trial a row of TensorBoard's HParams tab, then calls ``on_trial``.

    The event file lies with the trial's other files, so the search shows while it goes on. The
    tags begin with ``10_``: the tab shows the first metrics in the order of their letters, and
    this group stands before ``10_result``.
    """

    def log(trial: Trial) -> None:
        folder = directory / TRIALS_FOLDER / f"{trial.number:03d}"
        place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        options = {**trial.options, "verdict": verdict(trial, limits)}
        *_, end = hparams({}, {})  # type: ignore[no-untyped-call]
        with SummaryWriter(str(folder)) as board:
            assert board.file_writer is not None  # the board is open
            # Rows of equal ids become one: those of two searches must stay apart.
            board.file_writer.add_summary(
                hparams_pb(options, trial_id=f"{trial.number:03d}-{place}")
            )
            if trial.outcome is not None:
                for name, value in _measures(trial.outcome).items():
                    board.add_scalar(f"10_{kind}_search/{name}", value, 0)
            board.file_writer.add_summary(end)
        if on_trial is not None:
            on_trial(trial)

    return log


def _measures(outcome: Outcome) -> dict[SearchMeasure, float]:
    """The numbers that are known of an outcome."""
    values = dataclasses.asdict(outcome)
    return {name: values[name] for name in MEASURES if values[name] is not None}
