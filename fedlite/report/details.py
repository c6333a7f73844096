"""The details of a report that a reader opens when asked: every number behind the result."""

import json
from collections.abc import Mapping

from fedlite.base.records import ModelKey
from fedlite.report.artefacts import artefacts_markdown, milliseconds
from fedlite.report.fleet import fleet_markdown
from fedlite.report.memory import memory_rows
from fedlite.report.parts import Folded, code, pairs, plain, table
from fedlite.report.privacy_statement import privacy_in_numbers
from fedlite.report.quality import file_label, quality_markdown
from fedlite.report.schema import (
    ArtefactEntry,
    CompressionSection,
    DatasetSection,
    FederationSection,
    Report,
    TimedPart,
    TrafficPart,
)
from fedlite.report.words import (
    FORMAT_LABELS,
    artefacts_of,
    human_bytes,
    human_seconds,
    model_labels,
    percent,
    tested_on,
)

_TRAFFIC: dict[TrafficPart, str] = {
    "bytes_down": "Sent to clients",
    "bytes_up": "Sent by clients",
    "teacher_bytes": "Of what was sent to clients, the teacher",
}
_TIMED: dict[TimedPart, str] = {
    "teacher": "Time of the teacher",
    "warm_start": "Time of the public-only student",
    "plan": "Time of the noise's calibration",
    "federate": "Time of the rounds",
    "compress": "Time of compression",
    "evaluate": "Time of measuring",
    "total": "Time of all",
}


def details(report: Report) -> list[Folded]:
    """All that the report holds beyond its first page, in the order of its file."""
    folded = []
    if report["models"]:
        title = "Every file, measured in the runtime that serves it"
        folded.append(Folded(title, [artefacts_markdown(report)]))
    for name in report.get("quality", {}):
        title = f"Classes, calibration and energy: {file_label(name, report).lower()}"
        folded.append(Folded(title, [quality_markdown(name, report)]))
    if report["privacy"]["units"]:
        folded.append(Folded("Privacy in numbers", privacy_in_numbers(report["privacy"])))
    folded.append(Folded("Cost: traffic, time and memory", [_cost(report)]))
    if fleet := report.get("fleet"):
        folded.append(Folded("The simulated fleet", [fleet_markdown(fleet)]))
    folded.append(Folded("Data", [_dataset(report["dataset"], tested_on(report))]))
    folded.append(Folded("Federation", [_federation(report["federation"])]))
    if compression := report.get("compression"):
        folded.append(Folded("Compression", [_compression(compression, report)]))
    folded.append(Folded("Configuration: what differs from the default", [_changed(report)]))
    machine = {name: plain(value) for name, value in report["environment"].items()}
    run = {"Run": report["run"].get("run_id"), "Directory": code(report["run"]["dir"])}
    folded.append(Folded("Software and machine", [pairs(run | machine)]))
    return folded


def _cost(report: Report) -> str:
    traffic, timing = report["traffic"], report["timing"]
    rows = {label: human_bytes(traffic[key]) for key, label in _TRAFFIC.items()}
    rows |= {
        label: human_seconds(seconds)
        for key, label in _TIMED.items()
        if (seconds := timing.get(key)) is not None
    }
    if memory := report.get("memory"):
        rows |= {f"Memory, {name}": taken for name, taken in memory_rows(memory).items()}
    cells = [
        [
            label,
            milliseconds(model["latency_ms"]["p50"]),
            milliseconds(model["latency_ms"]["p95"]),
            human_bytes(model["peak_memory_bytes"]) if "peak_memory_bytes" in model else "–",
        ]
        for key, label in model_labels(report).items()
        if (model := report["models"].get(key))
    ]
    head = ["Model as ONNX, batch 1", "Median ms", "95% of calls within ms", "Peak memory"]
    return "\n\n".join([pairs(rows), *([table(head, cells)] if cells else [])])


def _dataset(dataset: DatasetSection, tested: str) -> str:
    return pairs(
        {
            "Data set": plain(dataset["name"]),
            "Classes": f"{dataset['classes']:,}",
            "Public examples": f"{dataset['public']:,}",
            "Private examples, on all clients": f"{dataset['private']:,}",
            f"{tested.capitalize()} examples": f"{dataset['test']:,}",
            "How clients differ (partition)": plain(dataset["partition"]),
        }
    )


def _federation(found: FederationSection) -> str:
    planned = found.get("rounds_planned", found["rounds"])
    refusals = "; ".join(f"{count} x {why}" for why, count in found.get("refusals", {}).items())
    return pairs(
        {
            "Clients": f"{found['num_clients']:,}",
            "Rounds": f"{found['rounds']:,} of {planned:,}",
            "The rounds stopped": plain(found["stopped"]),
            "Clients asked in a round, on average": f"{found['clients_per_round']:.4g}",
            "Local steps in a round": f"{found['local_steps']:,}",
            "Strategy": plain(found["strategy"]),
            "Engine": plain(found["engine"]),
            "Answers that trained": f"{found['clients_trained']:,}",
            "Answers that refused": f"{found['clients_refused']:,}",
            "Reasons of refusals": plain(refusals),
            "Clients that failed": f"{found['clients_failed']:,}",
            "Rounds with too few clients to release": found.get("rounds_not_released") or None,
        }
    )


def _compression(found: CompressionSection, report: Report) -> str:
    before, after = found["parameters_before"], found["parameters_after"]
    names, labels = {one["name"]: one for one in artefacts_of(report)}, model_labels(report)
    ships = "; ".join(
        f"{FORMAT_LABELS.get(form, form)}: {_artefact(name, names.get(name), labels)}"
        for form, name in found["shipped"].items()
    )
    public = "; ".join(
        f"{labels.get(key, key).lower()} {percent(value)}"
        for key, value in found["public_accuracy"].items()
    )
    zeros = found.get("nonzero_weights")
    return pairs(
        {
            "Ships": plain(ships) or "nothing",
            "Norms folded into their neighbours": plain(", ".join(found["folded_norms"])),
            "Share of channels cut": percent(found["ratio"]),
            "Channels chosen by": plain(found.get("criterion", "")),
            "Share of weights set to zero": percent(found["sparsity"]),
            "Weights before and after": f"{before:,} and {after:,}",
            "Weights that are not zero": None if zeros is None else f"{zeros:,}",
            "Quantization": f"{found['quantization']}, {found.get('bits', 8)} bits"
            if found["quantization"] != "none"
            else "none",
            "Recovery on public data": f"{found['recovery_steps']:,} steps"
            if "recovery_steps" in found
            else None,
            "Public examples that judged": f"{found['judges']:,}" if "judges" in found else None,
            "Accuracy on them": public,
            "Operators that stay in float": plain(", ".join(found["float_ops"])),
            "Largest difference of file and torch": f"{found['max_difference']:.2g}",
        }
    )


def _artefact(name: str, entry: ArtefactEntry | None, labels: Mapping[ModelKey, str]) -> str:
    if entry is None:
        return name
    label = labels.get(entry["model"], name)
    return f"{label.removeprefix('Student, ')} ({entry['precision']})"


def _changed(report: Report) -> str:
    """The options that are not as they are by default."""
    rows = [[code(key), code(_typed(value))] for key, value in report["changed"].items()]
    return table(["Option", "Value"], rows, left=2) if rows else "Nothing."


def _typed(value: object) -> str:
    """A value as it is typed."""
    if isinstance(value, str):
        return value or "''"
    return json.dumps(value, ensure_ascii=False)
