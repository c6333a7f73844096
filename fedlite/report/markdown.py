"""The text of report.md: the result in one paragraph, then everything behind it."""

from collections.abc import Mapping, Sequence

from fedlite.report.artefacts import artefacts_markdown
from fedlite.report.audits import audits_markdown
from fedlite.report.fleet import fleet_markdown
from fedlite.report.judged import judgement_sentences
from fedlite.report.memory import memory_rows
from fedlite.report.privacy_statement import privacy_statement
from fedlite.report.schema import Report, SearchSection
from fedlite.report.searches import search_markdown
from fedlite.report.table import comparison_markdown
from fedlite.report.words import (
    NOT_PRIVATE,
    epsilon_text,
    final_model,
    human_bytes,
    human_seconds,
    is_private,
    model_labels,
    percent,
)

_CAPTIONS = {
    "accuracy_by_round": "Test accuracy by round",
    "accuracy_by_simulated_time": "Test accuracy by simulated time",
    "epsilon_by_round": "Example-level epsilon spent by round",
    "client_level_epsilon_by_round": "Client-level epsilon spent by round",
    "confusion_matrix": "Confusion matrix of the federated student",
    "partition": "Which client holds which classes (simulation only)",
}


_PARETO = {
    "accuracy_against_latency": "Accuracy against latency",
    "accuracy_against_bytes": "Accuracy against size",
}


def _linked(captions: Mapping[str, str], pictures: Sequence[str]) -> list[str]:
    """Markdown of the pictures that are there, in the order of ``captions``."""
    return [f"![{captions[one]}](pictures/{one}.png)" for one in captions if one in pictures]


def _result(report: Report) -> str:
    models, privacy, federation = report["models"], report["privacy"], report["federation"]
    dataset = report["dataset"]
    sentences = [
        f"On **{dataset['name']}**, {federation['num_clients']} clients and"
        f" {federation['rounds']} rounds trained a student on their own data, distilling a teacher"
        " that was made from public data."
    ]
    if stopped := federation["stopped"]:
        sentences.append(f"**The rounds stopped {stopped}**; what is reported was made before.")
    sentences += judgement_sentences(report)
    if final := final_model(report):
        model, label = models[final], model_labels(report)[final].lower()
        sentences.append(
            f"The final model ({label}) is {percent(model['accuracy'])} accurate,"
            f" takes {human_bytes(model['bytes'])} and answers in"
            f" {model['latency_ms']['p50']:.3f} ms ({model['runtime']})."
        )
    if is_private(privacy):
        spent = ", ".join(
            f"epsilon {epsilon_text(unit['epsilon_max'])} at delta {unit['delta']:g}"
            f" ({unit['unit']}-level)"
            for unit in privacy["units"]
        )
        sentences.append(f"It cost {spent}.")
    else:
        sentences.append(f"**{NOT_PRIVATE}**.")
    return " ".join(sentences)


def _pairs(rows: Mapping[str, object]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "| :-- | :-- |", *lines])


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _cost(report: Report) -> str:
    traffic, timing = report.get("traffic", {}), report.get("timing", {})
    rows = {f"Traffic, {_words(key).lower()}": human_bytes(value) for key, value in traffic.items()}
    rows |= {
        f"Time, {_words(key).lower()}": human_seconds(value)
        for key, value in timing.items()
        if value is not None
    }
    if memory := report.get("memory"):
        rows |= {f"Memory, {name}": taken for name, taken in memory_rows(memory).items()}
    for key, label in model_labels(report).items():
        if model := report["models"].get(key):
            latency = f"p50 {model['latency_ms']['p50']:.3f}, p95 {model['latency_ms']['p95']:.3f}"
            peak = human_bytes(model["peak_memory_bytes"])
            rows[label] = f"{latency} ms at batch 1; peak memory {peak}; {model['runtime']}"
    return _pairs(rows)


def _config(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _config(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            flat[f"`{prefix}{key}`"] = f"`{value}`"
    return flat


def _shown_section(section: Mapping[str, object]) -> dict[str, object]:
    return {_words(key): _shown(value) for key, value in section.items()}


def _shown(value: object) -> object:
    match value:
        case list():
            return ", ".join(map(str, value)) or "none"
        case dict():
            shown = (f"{_words(key).lower()} {_shown(one)}" for key, one in value.items())
            return ", ".join(shown) or "none"
        case float():
            return f"{value:.3g}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
    return value


def student_search_markdown(search: SearchSection) -> str:
    """The report of a search of students, beside its trials in a folder of the run directory."""
    drawn = [f"![Trials of the search](../pictures/{one}.png)" for one in search["pictures"]]
    return "\n\n".join(["# fedlite: search of a student", search_markdown(search), *drawn]) + "\n"


def report_markdown(report: Report, pictures: Sequence[str]) -> str:
    """The text of report.md.

    Args:
        report: the report dictionary (docs/report.md).
        pictures: names of the files in ``pictures/``, without their ending.
    """
    parts = [f"# fedlite: {report['dataset']['name']}"]
    if "not_private" in pictures:
        parts.append(f"![{NOT_PRIVATE}](pictures/not_private.png)")
    parts += [_result(report), comparison_markdown(report)]
    parts += _linked(_CAPTIONS, pictures)
    if report["models"]:
        parts += ["## Artefacts", artefacts_markdown(report), *_linked(_PARETO, pictures)]
    if search := report.get("search"):
        parts += ["## Search", search_markdown(search)]
        parts += [f"![Trials of the search](pictures/{one}.png)" for one in search["pictures"]]
    parts += ["## Privacy", privacy_statement(report["privacy"])]
    if audits := report.get("audits"):
        parts += ["## Audits", audits_markdown(audits)]
    parts += ["## Cost", _cost(report)]
    if fleet := report.get("fleet"):
        parts += ["## Fleet", fleet_markdown(fleet)]
    sections = {
        "Dataset": report.get("dataset"),
        "Federation": report.get("federation"),
        "Compression": report.get("compression"),
    }
    for title, section in sections.items():
        if section:
            parts += [f"## {title}", _pairs(_shown_section(section))]
    parts += ["## Configuration", _pairs(_config(report["config"]))]
    parts += ["## Environment", _pairs(_shown_section(report["environment"]))]
    return "\n\n".join(part.strip() for part in parts) + "\n"
