"""Every file that could ship, side by side: as cells, as markdown and as CSV."""

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from fedlite.report.words import FORMAT_LABELS, MODELS, Report, human_bytes, percent, shipped

Entry = dict[str, Any]

TEACHER, FEDERATED, EAGER = "teacher", "federated_student", "torch"
BASELINES = ("teacher", "fp32", "eager")
_NOTHING = "–"

_HOW_TO_READ = """\
- Accuracy is from the test set; SNR, agreement and refusals are from public data. **Bold**: lies in
  the deployable folder.
- Latency is the median of one call in a fresh process, memory the peak of that process at the
  smallest batch. Runtimes that take one example a call loop over larger batches; where the binding
  of a runtime brings torch along, torch counts as its memory.
- *vs* says how many times smaller, and how many times faster at batch 1: than the fp32 teacher in
  the same runtime (in ONNX Runtime, where the teacher has no such file), than the fp32 student in
  the same runtime, and than the model before compression in eager PyTorch."""


def all_entries(report: Report) -> list[Entry]:
    """The report's artefacts with the models that they are judged against, in pipeline order.

    Models that are no artefacts (the teacher, the students before compression) are fp32 ONNX files.
    """
    listed: list[Entry] = list(report.get("artefacts") or [])
    known = {(one["model"], one["format"]) for one in listed}
    others = [
        {"name": f"{key}.onnx", "model": key, "format": "onnx", "precision": "fp32"}
        | {name: model[name] for name in ("accuracy", "macro_f1", "parameters", "bytes", "runtime")}
        | {name: model.get(name) for name in ("gzip_bytes", "load_ms", "peak_memory_bytes")}
        | {"latency_ms_by_batch": model.get("latency_ms_by_batch", {"1": model["latency_ms"]})}
        for key, model in report["models"].items()
        if key != "quantized_student" and (key, "onnx") not in known
    ]
    order = {key: place for place, key in enumerate(MODELS)}
    return sorted([*others, *listed], key=lambda one: order.get(one["model"], len(order)))


def is_measured(entry: Entry) -> bool:
    """Whether the file ran here; Core ML's, for one, run nowhere but on Apple's machines."""
    return bool(entry.get("latency_ms_by_batch"))


def may_ship(entry: Entry) -> bool:
    """Whether it is a file of a student that holds what private data taught, and not refused."""
    compared = (TEACHER, "public_student")
    return entry["format"] != EAGER and entry["model"] not in compared and not entry.get("refused")


def latency_ms(entry: Entry, batch: str = "1", measure: str = "p50") -> float | None:
    """Milliseconds of one call, or None where it was not measured."""
    found: float | None = (entry.get("latency_ms_by_batch") or {}).get(batch, {}).get(measure)
    return found


def baseline(entry: Entry, name: str, entries: Sequence[Entry]) -> Entry | None:
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
        model = TEACHER if entry["model"] == TEACHER else FEDERATED
        found = [] if eager else [one for one in entries if _is(one, model, EAGER)]
    elif name == "teacher":
        found = [one for form in ("onnx", own) for one in entries if _is(one, TEACHER, form)]
    else:
        students = [one for one in entries if one["format"] == own and one["model"] != TEACHER]
        found = [one for one in students if one["precision"] == "fp32" and not eager]
        found = found if entry["precision"] != "fp32" else []
    measured = [one for one in found if is_measured(one) and one["name"] != entry["name"]]
    return measured[-1] if measured else None


def _is(entry: Entry, model: str, form: str) -> bool:
    return bool(
        entry["model"] == model and entry["format"] == form and entry["precision"] == "fp32"
    )


def gains(entry: Entry, name: str, entries: Sequence[Entry]) -> tuple[float, float] | None:
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


def batch_sizes(entries: Sequence[Entry]) -> list[str]:
    """The batch sizes at which anything was timed, smallest first."""
    found = {batch for one in entries for batch in one.get("latency_ms_by_batch") or {}}
    return sorted(found, key=int)


def _cell(value: float | None, show: Callable[[float], str]) -> str:
    return _NOTHING if value is None else show(value)


def _gain_cell(entry: Entry, name: str, entries: Sequence[Entry]) -> str:
    found = gains(entry, name, entries)
    return f"{times(found[0])}, {times(found[1])}" if found else _NOTHING


def cells_of(entry: Entry, entries: Sequence[Entry]) -> dict[str, str]:
    """All cells of a row by the head of their column."""
    return {
        "Artefact": MODELS.get(entry["model"], entry["model"]),
        "Format": FORMAT_LABELS.get(entry["format"], entry["format"]),
        "Precision": entry["precision"],
        "Accuracy": _cell(entry.get("accuracy"), percent),
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
        if not one.get("refused"):
            cells = cells_of(one, entries)
            if one["name"] in ships:
                cells["Artefact"] = f"**{cells['Artefact']}**"
            rows.append(cells)
    left = ("Artefact", "Format", "Precision")
    lines = [
        " | ".join(rows[0]),
        " | ".join(":--" if head in left else "--:" for head in rows[0]),
        *(" | ".join(row.values()) for row in rows),
    ]
    parts = ["\n".join(f"| {line} |" for line in lines), _HOW_TO_READ, "Runtimes:"]
    runtimes = dict.fromkeys((one["format"], one["runtime"]) for one in entries if is_measured(one))
    parts.append("\n".join(f"- {FORMAT_LABELS.get(one, one)}: {name}" for one, name in runtimes))
    if refused := refusals(report):
        parts.append("Refused:\n\n" + "\n".join(f"- {line}" for line in refused))
    return "\n\n".join(parts) + "\n"


def refusals(report: Report) -> list[str]:
    """One line for every artefact that may not ship, with the reason."""
    return [
        f"{one['name']} ({one['precision']}): {one['refused']}"
        for one in report.get("artefacts") or []
        if one.get("refused")
    ]


def artefacts_csv(report: Report) -> str:
    """All numbers of all artefacts as CSV; latencies and sizes as they are in report.json.

    ``smaller_than_X`` and ``faster_than_X`` compare with the baselines of :func:`baseline`.
    """
    entries = all_entries(report)
    ships = shipped(report).values()
    rows = [_csv_row(one, entries) | {"ships": one["name"] in ships} for one in entries]
    buffer = StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


_PLAIN = ("name", "model", "format", "precision", "file", "accuracy", "macro_f1")
_JUDGED = ("public_accuracy", "accuracy_drop", "snr_db", "agreement")
_COST = ("parameters", "bytes", "gzip_bytes", "load_ms", "peak_memory_bytes", "runtime")


def _csv_row(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    row = {key: entry.get(key) for key in (*_PLAIN, *_JUDGED, *_COST)}
    for batch in batch_sizes(entries):
        for measure in ("p50", "p95", "min"):
            row[f"latency_ms_{measure}_batch_{batch}"] = latency_ms(entry, batch, measure)
    for name in BASELINES:
        found = gains(entry, name, entries)
        row[f"smaller_than_{name}"], row[f"faster_than_{name}"] = found or (None, None)
    row["float_ops"] = ", ".join(entry.get("float_ops") or [])
    row["refused"] = entry.get("refused") or ""
    return row
