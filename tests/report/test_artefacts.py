"""The table of artefacts: what each is compared with, and what its cells and its CSV say."""

import csv
from io import StringIO

import pytest

from fedlite.report.artefacts import (
    all_entries,
    artefacts_csv,
    artefacts_markdown,
    baseline,
    gains,
    may_ship,
    milliseconds,
    times,
)
from fedlite.report.schema import ArtefactEntry
from fedlite.report.words import final_model
from tests.report.runs import Report


def named(report: Report, name: str) -> ArtefactEntry:
    """One row by its name."""
    return next(one for one in all_entries(report) if one["name"] == name)


def base(report: Report, name: str, kind: str) -> str | None:
    """The name of what a row is compared with."""
    found = baseline(named(report, name), kind, all_entries(report))
    return found and found["name"]


def csv_rows(report: Report) -> dict[str, dict[str, str]]:
    """The rows of the CSV by name."""
    return {row["name"]: row for row in csv.DictReader(StringIO(artefacts_csv(report)))}


def test_models_and_artefacts_are_one_list_in_pipeline_order(report: Report) -> None:
    names = [one["name"] for one in all_entries(report)]
    assert names[:6] == [
        "teacher.onnx",
        "teacher.torch",
        "public_student.onnx",
        "federated_student.onnx",
        "federated_student.torch",
        "folded_student.onnx",
    ]
    assert len(names) == len(set(names)) == 13


def test_each_is_compared_in_its_own_runtime(report: Report) -> None:
    assert base(report, "quantized_student.litert", "fp32") == "pruned_student.litert"
    assert base(report, "quantized_student.onnx", "fp32") == "pruned_student.onnx"
    assert base(report, "pruned_student.onnx", "fp32") is None
    assert base(report, "quantized_student.onnx", "eager") == "federated_student.torch"
    assert base(report, "teacher.onnx", "eager") == "teacher.torch"
    assert base(report, "teacher.torch", "eager") is None
    assert base(report, "federated_student.torch", "teacher") == "teacher.torch"
    assert base(report, "teacher.onnx", "teacher") is None


def test_the_teacher_is_taken_in_the_same_runtime_where_it_has_a_file(report: Report) -> None:
    assert base(report, "quantized_student.litert", "teacher") == "teacher.onnx"
    teacher = named(report, "teacher.onnx")
    report["artefacts"].append(teacher | {"name": "teacher.litert", "format": "litert"})
    assert base(report, "quantized_student.litert", "teacher") == "teacher.litert"
    assert base(report, "quantized_student.onnx", "teacher") == "teacher.onnx"


def test_gains_are_ratios_of_bytes_and_latency(report: Report) -> None:
    quantized = named(report, "quantized_student.onnx")
    assert gains(quantized, "teacher", all_entries(report)) == pytest.approx(
        (2_050_000 / 24_100, 0.81 / 0.038)
    )
    unmeasured = named(report, "quantized_student.coreml")
    assert gains(unmeasured, "teacher", all_entries(report)) is None


def test_only_sound_files_of_students_may_ship(report: Report) -> None:
    shipping = {one["name"] for one in all_entries(report) if may_ship(one)}
    assert "quantized_student.coreml" in shipping
    assert "federated_student.onnx" in shipping
    for name in ("teacher.onnx", "federated_student.torch", "quantized_student.executorch"):
        assert name not in shipping
    assert "public_student.onnx" not in shipping


def test_markdown_has_one_row_for_each_and_the_refusals_below(report: Report) -> None:
    text = artefacts_markdown(report)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 12
    assert len({row.count("|") for row in rows}) == 1
    assert rows[0].split(" | ")[8:10] == ["ms, batch 1", "ms, batch 32"]
    assert (
        "| **Student, quantized** | ONNX | int8 | 85.5% | 34 dB | 98.5% | 24.1 kB | 21.7 kB"
        " | 0.038 | 0.760 | 1.50 | 61.0 MB | 85x, 21x | 2.7x, 1.2x | 5.2x, 14x |"
    ) in rows
    assert "- Student, quantized, ExecuTorch (int8): SNR 11.0 dB is under" in text
    assert "- LiteRT: litert 2.3.0 cpu, 1 thread, batches over 1 looped" in text


def test_csv_holds_every_number(report: Report) -> None:
    rows = csv_rows(report)
    assert len(rows) == 13
    row = rows["quantized_student.litert"]
    assert float(row["latency_ms_p95_batch_32"]) == pytest.approx(24 * 0.024)
    assert float(row["latency_ms_min_batch_1"]) == pytest.approx(0.9 * 0.024)
    assert float(row["faster_than_fp32"]) == pytest.approx(0.040 / 0.024)
    assert float(row["faster_than_eager"]) == pytest.approx(0.52 / 0.024)
    assert (row["parameters"], row["ships"]) == ("15400", "True")
    refused = rows["quantized_student.executorch"]
    assert (refused["ships"], refused["snr_db"]) == ("False", "11.0")
    assert refused["refused"].startswith("SNR 11.0 dB")
    unmeasured = rows["quantized_student.coreml"]
    assert (unmeasured["accuracy"], unmeasured["faster_than_teacher"]) == ("", "")
    assert rows["quantized_student.onnx"]["float_ops"] == "Softmax"


def test_the_final_model_is_the_one_that_ships(report: Report) -> None:
    assert final_model(report) == "quantized_student"
    report["compression"]["shipped"] = {"onnx": "pruned_student.onnx"}
    assert final_model(report) == "pruned_student"
    report["artefacts"] = []
    assert final_model(report) == "quantized_student"


@pytest.mark.parametrize(
    ("ratio", "shown"), [(0.444, "0.4x"), (1.84, "1.8x"), (9.96, "10.0x"), (21.3, "21x")]
)
def test_ratios(ratio: float, shown: str) -> None:
    assert times(ratio) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0381, "0.038"), (1.234, "1.23"), (16.23, "16.2"), (1621.0, "1621.0")]
)
def test_milliseconds(value: float, shown: str) -> None:
    assert milliseconds(value) == shown
