"""The report of a run on disk: report.json, report.md, report.html and the pictures."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.base.files import write_whole
from fedlite.base.records import RoundRecord
from fedlite.report import charts, drawing, pareto, quality_charts
from fedlite.report.artefacts import artefacts_csv
from fedlite.report.content import report_parts, report_title
from fedlite.report.html import report_html
from fedlite.report.markdown import markdown_of
from fedlite.report.schema import EpsilonsOfRound, Report, RoundEntry
from fedlite.report.words import is_private, metric_of, not_private_reason, tested_on

SCHEMA_VERSION = 1
SECTIONS = tuple(Report.__annotations__)  # in the order of the file


def round_entry(record: RoundRecord) -> RoundEntry:
    """A round as an entry of the report's ``history``: the record without its confusion matrix."""
    found = record.evaluation
    entry: RoundEntry = {
        "round": record.round,
        "evaluation": None
        if found is None
        else {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "loss": found.loss},
        "clients_trained": record.clients_trained,
        "clients_refused": record.clients_refused,
        "clients_failed": record.clients_failed,
        "epsilon": epsilons_of_round(record.epsilons),
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
        "seconds": record.seconds,
        "teacher_bytes": record.teacher_bytes,
        "released": record.released,
        "refusals": record.refusals,
        "client_level_epsilon": record.client_level_epsilon,
        "clip": record.clip,
    }
    if record.simulated:
        entry["simulated"] = record.simulated
    return entry


def epsilons_of_round(epsilons: Sequence[float]) -> EpsilonsOfRound | None:
    """The epsilons of all clients, summed up; None of none."""
    return summed_up(epsilons) if epsilons else None


def summed_up(epsilons: Sequence[float]) -> EpsilonsOfRound:
    """The epsilons of one client or more in four figures."""
    return {
        "min": min(epsilons),
        "mean": float(np.mean(epsilons)),
        "p95": float(np.quantile(epsilons, 0.95)),
        "max": max(epsilons),
    }


def _plain(value: Any) -> Any:
    """Values as JSON knows them: numbers of NumPy and torch unboxed, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def draw_pictures(
    report: Report,
    class_counts: Sequence[Sequence[int]] | NDArray[Any] | None,
    class_names: Sequence[str],
    confusion: Sequence[Sequence[int]] | NDArray[Any] | None,
    confusion_of: str,
) -> dict[str, Figure]:
    """The pictures that a report has the numbers for, by file name without its ending."""
    models, privacy, history = report["models"], report["privacy"], report.get("history") or []
    drawn: dict[str, Figure] = {}
    tests, tested = report["dataset"]["test"], tested_on(report)
    metric = metric_of(report)
    levels = {key: models[key][metric] for key in models if key in charts.LEVELS}
    if not is_private(privacy):
        drawn["not_private"] = charts.not_private_banner(not_private_reason(privacy))
    if any(one["evaluation"] for one in history):
        drawn["accuracy_by_round"] = charts.accuracy_by_round(
            history, levels, metric, tests=tests, tested=tested
        )
    budgets = {unit["unit"]: unit["budget"] for unit in privacy["units"]}
    if "example" in budgets and any(one["epsilon"] for one in history):
        drawn["epsilon_by_round"] = charts.epsilon_by_round(history, budgets["example"])
    if "client" in budgets and history:
        drawn["client_level_epsilon_by_round"] = charts.epsilon_by_round(
            history, budgets["client"], "client"
        )
    timed = [
        (one["simulated"]["clock_seconds"], one["evaluation"][metric])
        for one in history
        if one["evaluation"] and "simulated" in one
    ]
    if timed:
        drawn["accuracy_by_simulated_time"] = charts.accuracy_by_simulated_time(
            timed, levels, metric, tests=tests, tested=tested
        )
    if models:
        drawn["accuracy_against_latency"] = pareto.accuracy_against_latency(report)
        drawn["accuracy_against_bytes"] = pareto.accuracy_against_bytes(report)
    if confusion is not None:
        drawn["confusion_matrix"] = charts.confusion_matrix(confusion, class_names, confusion_of)
    if report.get("quality"):
        drawn["reliability"] = quality_charts.reliability_diagram(report)
    if "cascade" in report:
        drawn["cascade"] = quality_charts.cascade_chart(report)
    if class_counts is not None:
        drawn["partition"] = charts.partition_heatmap(class_counts, class_names)
    return drawn


def write_report(
    report: Report,
    directory: Path,
    class_counts: Sequence[Sequence[int]] | NDArray[Any] | None,
    class_names: Sequence[str],
    confusion: Sequence[Sequence[int]] | NDArray[Any] | None,
    confusion_of: str = charts.FEDERATED,
) -> dict[str, Path]:
    """Write ``report.json``, ``.md`` and ``.html``, ``artefacts.csv`` and ``pictures/*.png``.

    Each file is whole or as it was.

    Args:
        report: the report dictionary (docs/report.md); ``schema_version`` is added.
        directory: the run directory.
        class_counts: (clients, classes) numbers of examples; simulations only, else None.
        class_names: one name for each class.
        confusion: (classes, classes) of a student on the test set, if there is one.
        confusion_of: which student it is of.

    Returns:
        The paths of what was written: ``report``, ``report_html``, ``report_json``, ``pictures``
        and, where models were measured, ``artefacts``.
    """
    found: dict[str, object] = {"schema_version": SCHEMA_VERSION, **report}
    report = _plain({key: found[key] for key in SECTIONS if key in found} | found)
    folder = directory / "pictures"
    drawn = draw_pictures(report, class_counts, class_names, confusion, confusion_of)
    for name, figure in drawn.items():
        drawing.save_figure(figure, folder / f"{name}.png")
    paths = {
        "report": directory / "report.md",
        "report_html": directory / "report.html",
        "report_json": directory / "report.json",
        "pictures": folder,
    }
    parts = report_parts(report, list(drawn))
    write_whole(paths["report"], markdown_of(parts))
    write_whole(paths["report_html"], report_html(report_title(report), parts, directory))
    if report["models"]:
        paths["artefacts"] = directory / "artefacts.csv"
        write_whole(paths["artefacts"], artefacts_csv(report))
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(paths["report_json"], text + "\n")
    return paths


def load_report(path: Path) -> Report:
    """Read a ``report.json`` back.

    Raises:
        UsageError: the file is missing, is not a report, or is of another schema version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such report; give the directory of a finished run") from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: not a readable report ({error}); run `fedlite report`"
        ) from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(f"{path}: schema_version is {version}, must be {SCHEMA_VERSION}")
    report: Report = found
    return report
