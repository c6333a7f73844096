"""Every file that could ship, side by side: as cells, as markdown and as CSV."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from fedlite.base.files import csv_text
from fedlite.base.records import ModelKey
from fedlite.report.parts import plain, table
from fedlite.report.schema import ArtefactEntry, LatencyEntry, ModelEntry, Report
from fedlite.report.words import (
    FORMAT_LABELS,
    MODEL_LABELS,
    PUBLIC_MODELS,
    artefacts_of,
    human_bytes,
    metric_of,
    model_labels,
    percent,
    shipped,
)

EAGER = "torch"  # as a format

LatencyMeasure = Literal["p50", "p95", "min"]
Baseline = Literal["teacher", "fp32", "eager"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
_NOTHING = "–"

_HOW_TO_READ = """\
- Accuracy and macro-F1 are from the test set; SNR, agreement and refusals are from public data.
  **Bold**: lies in the deployable folder.
- Latency is the median of one call in a fresh process, memory the peak of that process at the
  smallest batch. Runtimes that take one example a call loop over larger batches; where the binding
  of a runtime brings torch along, torch counts as its memory.
- *vs* says how many times smaller, and how many times faster at batch 1: than the fp32 teacher in
  the same runtime (in ONNX Runtime, where the teacher has no such file), than the fp32 student in
  the same runtime, and than the model before compression in eager PyTorch."""


def all_entries(report: Report) -> list[ArtefactEntry]:
    """The report's artefacts with the models that they are judged against, in pipeline order.

    Models that are no artefacts (the teacher, the students before compression) are fp32 ONNX files.
    """
    listed = artefacts_of(report)
    known = {(one["model"], one["format"]) for one in listed}
    others = [
        _as_artefact(key, model)
        for key, model in report["models"].items()
        if key != "quantized_student" and (key, "onnx") not in known
    ]
    order = {key: place for place, key in enumerate(MODEL_LABELS)}
    return sorted([*others, *listed], key=lambda one: order.get(one["model"], len(order)))


def _as_artefact(key: ModelKey, model: ModelEntry) -> ArtefactEntry:
    return {
        "name": f"{key}.onnx",
        "model": key,
        "format": "onnx",
        "precision": "fp32",
        "refused": "",
        "accuracy": model["accuracy"],
        "macro_f1": model["macro_f1"],
        "parameters": model["parameters"],
        "bytes": model["bytes"],
        "runtime": model["runtime"],
        "gzip_bytes": model.get("gzip_bytes"),
        "load_ms": model.get("load_ms"),
        "peak_memory_bytes": model.get("peak_memory_bytes"),
        "latency_ms_by_batch": model.get("latency_ms_by_batch", {"1": model["latency_ms"]}),
    }


def is_measured(entry: ArtefactEntry) -> bool:
    """Whether the file ran here; Core ML's, for one, run nowhere but on Apple's machines."""
    return bool(_by_batch(entry))


def _by_batch(entry: ArtefactEntry) -> dict[str, LatencyEntry]:
    return entry.get("latency_ms_by_batch") or {}


def may_ship(entry: ArtefactEntry) -> bool:
    """Whether it is a file of a student that was made to ship, and not refused."""
    baseline = entry["model"] in PUBLIC_MODELS and not entry.get("file")
    return entry["format"] != EAGER and not baseline and not entry["refused"]


def latency_ms(
    entry: ArtefactEntry, batch: str = "1", measure: LatencyMeasure = "p50"
) -> float | None:
    """Milliseconds of one call, or None where it was not measured."""
    found = _by_batch(entry).get(batch)
    return found.get(measure) if found else None


def baseline(
    entry: ArtefactEntry, name: Baseline, entries: Sequence[ArtefactEntry]
) -> ArtefactEntry | None:
    """What ``entry`` is compared with; None where there is no such thing.

    Args:
        entry: a row of :func:`all_entries`.
        name: ``teacher`` (its fp32 file in the same runtime, else its ONNX file), ``fp32`` (the
            student's last fp32 file in the same runtime) or ``eager`` (the model before
            compression in eager PyTorch).
        entries: all rows.
    """
    own, eager = entry["format"], entry["format"] == EAGER
    if name == "eager":
        teacher = entry["model"] == "teacher"
        beside = [one for one in entries if (one["model"] == "teacher") == teacher]
        found = [] if eager else [one for one in beside if one["format"] == EAGER]
    elif name == "teacher":
        found = [one for form in ("onnx", own) for one in entries if _is(one, "teacher", form)]
    else:
        students = [one for one in entries if one["format"] == own and one["model"] != "teacher"]
        found = [one for one in students if one["precision"] == "fp32" and not eager]
        found = found if entry["precision"] != "fp32" else []
    measured = [one for one in found if is_measured(one) and one["name"] != entry["name"]]
    return measured[-1] if measured else None


def _is(entry: ArtefactEntry, model: ModelKey, form: str) -> bool:
    return entry["model"] == model and entry["format"] == form and entry["precision"] == "fp32"


def gains(
    entry: ArtefactEntry, name: Baseline, entries: Sequence[ArtefactEntry]
) -> tuple[float, float] | None:
    """How many times smaller and faster (median at batch 1) than :func:`baseline`."""
    base = baseline(entry, name, entries)
    own = latency_ms(entry)
    other = latency_ms(base) if base else None
    if base is None or not own or not other:
        return None
    return base["bytes"] / entry["bytes"], other / own


def times(ratio: float) -> str:
    """A ratio as people say it: ``1.84 -> '1.8x'``, ``21.3 -> '21x'``."""
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:,.0f}x"


def milliseconds(value: float) -> str:
    """A latency with three digits or so: ``0.0381 -> '0.038'``, ``16.23 -> '16.2'``."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def batch_sizes(entries: Sequence[ArtefactEntry]) -> list[str]:
    """The batch sizes at which anything was timed, smallest first."""
    found = {batch for one in entries for batch in _by_batch(one)}
    return sorted(found, key=int)


def _cell(value: float | None, show: Callable[[float], str]) -> str:
    return _NOTHING if value is None else show(value)


def _gain_cell(entry: ArtefactEntry, name: Baseline, entries: Sequence[ArtefactEntry]) -> str:
    found = gains(entry, name, entries)
    return f"{times(found[0])}, {times(found[1])}" if found else _NOTHING


def cells_of(
    entry: ArtefactEntry,
    entries: Sequence[ArtefactEntry],
    labels: Mapping[ModelKey, str],
) -> dict[str, str]:
    """All cells of a row by the head of their column; ``labels`` name the models."""
    return {
        "Artefact": labels.get(entry["model"], entry["model"]),
        "Format": FORMAT_LABELS.get(entry["format"], entry["format"]),
        "Precision": entry["precision"],
        "Accuracy": _cell(entry.get("accuracy"), percent),
        "Macro-F1": _cell(entry.get("macro_f1"), "{:.3f}".format),
        "SNR": _cell(entry.get("snr_db"), lambda value: f"{value:.0f} dB"),
        "Agreement": _cell(entry.get("agreement"), percent),
        "Bytes": _cell(entry.get("bytes"), human_bytes),
        "gzip": _cell(entry.get("gzip_bytes"), human_bytes),
        **{
            f"ms, batch {one}": _cell(latency_ms(entry, one), milliseconds)
            for one in batch_sizes(entries)
        },
        "Load ms": _cell(entry.get("load_ms"), milliseconds),
        "Memory": _cell(entry.get("peak_memory_bytes"), human_bytes),
        **{f"vs {name}": _gain_cell(entry, name, entries) for name in BASELINES},
    }


def artefacts_markdown(report: Report) -> str:
    """The artefacts as a markdown table, how to read it, the runtimes, and what was refused.

    Args:
        report: the report dictionary (docs/report.md) with ``models`` and ``artefacts``.
    """
    entries = all_entries(report)
    ships = shipped(report).values()
    rows = []
    for one in entries:
        if not one["refused"]:
            cells = cells_of(one, entries, model_labels(report))
            if one["name"] in ships:
                cells["Artefact"] = f"**{cells['Artefact']}**"
            if metric_of(report) == "accuracy":
                del cells["Macro-F1"]
            rows.append(cells)
    beside = table(list(rows[0]), [list(row.values()) for row in rows], left=3)
    parts = [beside, _HOW_TO_READ, "Runtimes:"]
    runtimes = dict.fromkeys((one["format"], one["runtime"]) for one in entries if is_measured(one))
    parts.append(
        "\n".join(f"- {FORMAT_LABELS.get(one, one)}: {plain(name)}" for one, name in runtimes)
    )
    if refused := refused_artefacts(report):
        parts.append("Refused:\n\n" + "\n".join(f"- {plain(line)}" for line in refused))
    return "\n\n".join(parts) + "\n"


def refused_artefacts(report: Report) -> list[str]:
    """One line for every artefact that may not ship, with the reason."""
    labels = model_labels(report)
    return [
        f"{labels.get(one['model'], one['model'])},"
        f" {FORMAT_LABELS.get(one['format'], one['format'])} ({one['precision']}): {one['refused']}"
        for one in artefacts_of(report)
        if one["refused"]
    ]


def artefacts_csv(report: Report) -> str:
    """All numbers of all artefacts as CSV; latencies and sizes as they are in report.json.

    ``smaller_than_X`` and ``faster_than_X`` compare with the baselines of :func:`baseline`.
    """
    entries = all_entries(report)
    ships = shipped(report).values()
    return csv_text([_csv_row(one, entries) | {"ships": one["name"] in ships} for one in entries])


_Column = Literal[
    "name",
    "model",
    "format",
    "precision",
    "file",
    "accuracy",
    "macro_f1",
    "public_accuracy",
    "accuracy_drop",
    "snr_db",
    "agreement",
    "parameters",
    "bytes",
    "gzip_bytes",
    "load_ms",
    "peak_memory_bytes",
    "runtime",
]
_COLUMNS: tuple[_Column, ...] = get_args(_Column)
_LATENCIES: tuple[LatencyMeasure, ...] = get_args(LatencyMeasure)


def _csv_row(entry: ArtefactEntry, entries: Sequence[ArtefactEntry]) -> dict[str, object]:
    row: dict[str, object] = {**dict.fromkeys(_COLUMNS)}
    row |= {key: entry[key] for key in _COLUMNS if key in entry}
    for batch in batch_sizes(entries):
        for measure in _LATENCIES:
            row[f"latency_ms_{measure}_batch_{batch}"] = latency_ms(entry, batch, measure)
    for name in BASELINES:
        found = gains(entry, name, entries)
        row[f"smaller_than_{name}"], row[f"faster_than_{name}"] = found or (None, None)
    row["float_ops"] = ", ".join(entry.get("float_ops") or [])
    row["refused"] = entry["refused"]
    return row
