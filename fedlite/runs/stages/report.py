"""The report, and the folder that ships."""

from pathlib import Path

from fedlite.compress.bundle import write_bundle
from fedlite.compress.format import suffix_of
from fedlite.report.card import ShippedFile
from fedlite.report.charts import FEDERATED
from fedlite.report.privacy_statement import privacy_statement
from fedlite.report.schema import Report
from fedlite.report.table import comparison_markdown
from fedlite.report.words import final_model, model_labels
from fedlite.report.write import write_report
from fedlite.runs.assemble import assemble_report
from fedlite.runs.facts import NoFacts
from fedlite.runs.pipeline import Pipeline


def run(pipeline: Pipeline) -> NoFacts:
    """Write the report and its pictures, ``deploy/`` and TensorBoard's last events."""
    pipeline.need("evaluate")
    report = assemble_report(pipeline)
    names = pipeline.splits.task.class_names
    facts = pipeline.run.facts
    confusion, whose = facts["federate"]["evaluation"]["confusion"], FEDERATED
    ships, final = facts["compress"]["shipped"].get("onnx", ""), final_model(report)
    if (found := facts["evaluate"].get("quality", {}).get(ships)) and final is not None:
        confusion, whose = found["confusion"], f"what ships ({model_labels(report)[final].lower()})"
    write_report(report, pipeline.run.path, pipeline.splits.class_counts(), names, confusion, whose)
    _bundle(pipeline, report)
    board = pipeline.board(purge_step=pipeline.config.federation.rounds + 1)
    if board is not None:
        with board:
            board.log_final(report, names, confusion, whose)
            if report["search"]:
                board.log_search(report["search"], pipeline.run.file("pictures"))
    return {}


def _bundle(pipeline: Pipeline, report: Report) -> None:
    """Write the deployable folder from the files that may ship."""
    facts = pipeline.run.facts["compress"]
    by_name = {one["name"]: one for one in facts["artefacts"]}
    files: dict[str, Path] = {}
    manifest: list[ShippedFile] = []
    for format_name, name in facts["shipped"].items():
        artefact, made = by_name[name], by_name[name]["file"]
        assert made is not None  # what could not be made does not ship
        shipped: ShippedFile = {
            "file": f"student{suffix_of(format_name)}",
            "name": artefact["name"],
            "model": artefact["model"],
            "format": artefact["format"],
            "precision": artefact["precision"],
        }
        files[shipped["file"]] = pipeline.run.file(made)
        manifest.append(shipped)
    key = pipeline.config.compress.signing_key
    write_bundle(
        pipeline.run.file("deploy"),
        files,
        manifest,
        pipeline.splits.task,
        report,
        privacy_statement=privacy_statement(report["privacy"]),
        metrics_table=comparison_markdown(report),
        calibration=_calibration(report, manifest),
        signing_key=Path(key) if key else None,
    )


def _calibration(report: Report, manifest: list[ShippedFile]) -> dict[str, dict[str, float]]:
    """By shipped file, what was fitted and chosen for it on public data."""
    quality, found = report.get("quality", {}), {}
    for entry in manifest:
        known = quality.get(entry["name"])
        if known and known["calibrated_on"]:
            found[entry["file"]] = {
                "temperature": known["temperature"],
                "examples": known["calibrated_on"],
            }
            if "cascade" in report and report["cascade"]["student"] == entry["name"]:
                cascade = report["cascade"]
                found[entry["file"]]["threshold"] = cascade["public"][cascade["chosen"]][
                    "threshold"
                ]
    return found
