"""The model card of a deployable folder, as markdown."""

from collections.abc import Sequence
from typing import TypedDict

from fedlite.base.intervals import wilson_interval
from fedlite.base.records import ModelKey
from fedlite.data.types import Task, Tokens
from fedlite.report.judged import STUDENTS, judgement_sentences, ships_public_only
from fedlite.report.parts import code, pairs, plain, table
from fedlite.report.schema import ArtefactEntry, LatencyEntry, ModelEntry, Report
from fedlite.report.words import artefacts_of, tested_on
from fedlite.serve.tokens import PAD, TOKENIZER

_USE = """\
## Use

```
fedlite verify .                          # is this folder whole, and who made it?
fedlite predict . INPUT                   # {examples}, or a folder of them
```

Every model takes {inputs},
and answers logits (batch, {classes}) in the order of `labels.json`; softmax makes probabilities of
them, divided first by the file's `temperature` where there is a `calibration.json`. `manifest.json`
names each file's format, runtime, input, output and batch; a file whose input is int8 holds scale
and zero point of input and output.
Without fedlite, `sha256sum -c SHA256SUMS` checks the sums"""

_SIGNED = """\
 and

```
openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
```

the signature. `KEY.pem` is the signer's public key: get it from the signer. `public_key.pem` in
this folder is as easily exchanged as any other file."""


_CASCADE = """\
## Asking the teacher

`fedlite predict . INPUT ask=URL` sends what the student is not sure of (`threshold` in
`calibration.json`) to a server that holds the teacher. **Such inputs leave the device as they are,
and the guarantee above says nothing of them.** Without `ask=` nothing is sent."""


class ShippedFile(TypedDict):
    """A file of the folder: its name there, and the artefact that it is (as in the report)."""

    file: str
    name: str
    model: ModelKey
    format: str
    precision: str


class TensorName(TypedDict, total=False):
    """What an input or output is called, in the formats that name them."""

    name: str


class TensorEntry(TensorName):
    """An input or output: the type of its values and the shape of one example."""

    type: str
    shape: list[int]


class ManifestEntry(ShippedFile):
    """One of ``manifest.json``: a file with what it tells of itself; ``bytes`` is its size."""

    bytes: int
    runtime: str
    batch: int | str
    input: TensorEntry
    output: TensorEntry


def model_card(
    task: Task,
    report: Report,
    manifest: Sequence[ManifestEntry],
    *,
    privacy_statement: str,
    metrics_table: str,
    calibrated: bool = False,
    signed: bool = False,
) -> str:
    """The card: what the models are, how private, how good and how fast, their limits and use.

    Args:
        task: what the models see and answer.
        report: the run's report (docs/report.md); its parts ``dataset``, ``federation``,
            ``compression``, ``config``, ``models`` and, where there, ``artefacts`` and
            ``environment`` are read.
        manifest: the content of ``manifest.json``.
        privacy_statement: markdown; it says by itself if nothing is private.
        metrics_table: markdown.
        calibrated: whether ``calibration.json`` is in the folder.
        signed: whether the folder carries a signature.
    """
    shape = ", ".join(map(str, task.input_shape))
    examples, inputs = _inputs(task, shape)
    use = _USE.format(examples=examples, inputs=inputs, classes=task.num_classes)
    parts = [
        f"# {plain(task.name)}: {plain(report['config']['student']['name'])}",
        _what(task, report, manifest),
        "## Files",
        _files(report, manifest),
        "## Privacy",
        privacy_statement.strip(),
        "## From the teacher to the shipped file",
        metrics_table.strip(),
        "## Data",
        _data(task, report, shape),
        "## Limits",
        _limits(task, report, manifest, calibrated=calibrated),
        *([_CASCADE] if "cascade" in report else []),
        use + (_SIGNED if signed else ". The folder is not signed."),
    ]
    return "\n\n".join(parts) + "\n"


def _inputs(task: Task, shape: str) -> tuple[str, str]:
    """What `fedlite predict` takes, and what the models take."""
    if isinstance(task.preprocessing, Tokens):
        return "a txt (one text a line), a csv or tsv", (
            f"(batch, {shape}) of {task.input_type}: the numbers of a text's tokens by"
            f"\n`{TOKENIZER}`, cut at {shape} and filled up with {PAD} (`preprocessing.json`)"
        )
    return "pictures, npy, npz, csv", (
        f"(batch, {shape}), normalised as `preprocessing.json` says,\n`(raw / scale - mean) / std`"
    )


def accuracy_text(accuracy: float, tests: int) -> str:
    """An accuracy with its 95% interval: ``85.0% (84.3% to 85.7%)``."""
    low, high = wilson_interval(accuracy, tests)
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"


def measures_of(entry: ManifestEntry, report: Report) -> ModelEntry | ArtefactEntry | None:
    """What was measured of a file: its entry in the report's ``artefacts``, or, of an ONNX file,
    in ``models``; None where it was not measured."""
    found: ModelEntry | ArtefactEntry | None = None
    if entry["format"] == "onnx":
        found = report["models"].get(entry["model"])
    for artefact in artefacts_of(report):
        if artefact["name"] == entry["name"]:
            found = artefact
    return found if found and "accuracy" in found else None


def latencies_of(measures: ModelEntry | ArtefactEntry | None) -> dict[str, LatencyEntry]:
    """Batch size (as text) to latency in milliseconds, as far as measured."""
    if measures is None:
        return {}
    if by_batch := measures.get("latency_ms_by_batch"):
        return by_batch
    return {"1": measures["latency_ms"]} if "latency_ms" in measures else {}


def _what(task: Task, report: Report, manifest: Sequence[ManifestEntry]) -> str:
    federation, config = report["federation"], report["config"]
    made = "; ".join(f"`{entry['file']}` {_made(entry, report)}" for entry in manifest)
    trained = (
        f"by {federation['num_clients']} clients in {federation['rounds']} rounds"
        f" ({federation['strategy']})"
    )
    if ships_public_only(report):
        trained = f"on public data alone, and shipped in place of what was made of it {trained}"
    what = (
        f"A `{config['student']['name']}` that tells {task.num_classes} classes apart. It was"
        f" distilled from a `{config['teacher']['name']}` {trained}. What was done to it after that"
        f" was done on public data alone: {made}."
    )
    return " ".join([what, *map(plain, judgement_sentences(report))])


def _made(entry: ManifestEntry, report: Report) -> str:
    """What a shipped file is: the student as it was, or how it was made smaller."""
    compression = report["compression"]
    if entry["model"] in STUDENTS:
        name = STUDENTS[entry["model"]]
        return f"is the {name} as it was, {compression['parameters_before']:,} parameters"
    steps = [f"{compression['parameters_after']:,} parameters"]
    if norms := compression.get("folded_norms"):
        steps.append(f"{len(norms)} norms folded")
    if compression["ratio"] > 0:
        steps.append(f"{compression['ratio']:.0%} of the channels pruned")
    if compression["sparsity"] > 0:
        steps.append(f"{compression['sparsity']:.0%} of the weights zero")
    steps.append(entry["precision"])
    return "has " + ", ".join(steps)


def _files(report: Report, manifest: Sequence[ManifestEntry]) -> str:
    tests = report["dataset"]["test"]
    rows = []
    for entry in manifest:
        measures = measures_of(entry, report)
        accuracy = accuracy_text(measures["accuracy"], tests) if measures else "not measured"
        latency = "; ".join(
            f"{times['p50']:.3f} / {times['p95']:.3f} (batch {batch})"
            for batch, times in latencies_of(measures).items()
        )
        cells = (
            code(entry["file"]),
            entry["format"],
            entry["precision"],
            f"{entry['bytes']:,}",
            accuracy,
            latency or "not measured",
            plain((measures and measures.get("runtime")) or entry["runtime"]),
        )
        rows.append(cells)
    head = ["File", "Format", "Precision", "Bytes", "Accuracy (95% interval)"]
    head += ["Latency p50 / p95, ms", "Runtime"]
    environment = report.get("environment") or {}
    platform: str = environment.get("platform", "an unnamed platform")
    cores: int | str | None = environment.get("cores", "?")
    measure = report["config"].get("compress", {}).get("measure", {})
    how = [
        f"Accuracy is on {tests:,} {tested_on(report)} examples; the interval is"
        " Wilson's score interval (1927) for those examples as a random sample."
    ]
    if "threads" in measure:
        how.append(
            f"Latency is that of the model call alone, {measure['threads']} thread(s), in a fresh"
            f" process on {platform} with {cores} cores; on another device it is another."
        )
    return table(head, rows, left=3) + "\n\n" + " ".join(how)


def _data(task: Task, report: Report, shape: str) -> str:
    data = report["dataset"]
    facts = {
        "Data": code(data["name"]),
        "One example is": plain(task.example),
        "Public examples (teacher, warm start, pruning, calibration)": f"{data['public']:,}",
        "Test examples": f"{data['test']:,}",
        "Classes": plain(", ".join(task.class_names)),
        "Input": plain(f"({shape}), {task.preprocessing.words}"),
    }
    return pairs(facts)


def _limits(
    task: Task, report: Report, manifest: Sequence[ManifestEntry], *, calibrated: bool
) -> str:
    tests = report["dataset"]["test"]
    low, high = wilson_interval(0.5, tests)
    widest = (high - low) / 2
    limits = [
        f"It answers with one of its {task.num_classes} classes whatever it is shown, and can be"
        " sure of nonsense: it cannot say that an input is none of them. Its probabilities"
        + (
            " were calibrated on public data: they hold for inputs like those."
            if calibrated
            else " were not calibrated."
        ),
        f"It knows examples like those of {code(report['dataset']['name'])}. For another sensor,"
        " population or time its accuracy is unknown: measure it there first.",
        "It must not decide alone about people's rights, health, safety or money; nothing here was"
        " tested for fairness between groups, or against inputs made to deceive it.",
        f"With {tests:,} examples to test on, an accuracy is known to {100 * widest:.1f} points"
        " either way (95% confidence, at 50% accuracy); smaller differences between models"
        " say little, and accuracies of single classes are known less well.",
    ]
    if any(entry["precision"] != "fp32" for entry in manifest):
        kept = report["compression"].get("float_ops") or []
        text = (
            "Quantized weights and activations round: single answers can differ from the trained"
            " model's and between runtimes."
        )
        limits.append(text + (f" Still computed in float: {', '.join(kept)}." if kept else ""))
    limits += [
        f"`{artefact['name']}` does not ship: {plain(artefact['refused'])}"
        for artefact in artefacts_of(report)
        if artefact["refused"]
    ]
    return "\n".join(f"- {limit}" for limit in limits)
