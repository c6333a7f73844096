"""Classes, calibration, energy and cascade, as reports of whole runs tell them."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedlite.cli.main import run
from fedlite.report.cascade import cascade_costs, cascade_markdown
from fedlite.report.quality import count_text, joules_text, quality_markdown
from fedlite.report.quality_charts import cascade_chart, reliability_diagram
from fedlite.serve.verify import verify_bundle
from tests.e2e.command import refusal


def test_teacher_and_shipped_file_are_looked_at_closely(finished_report: dict[str, Any]) -> None:
    quality = finished_report["quality"]
    shipped = finished_report["compression"]["shipped"]["onnx"]
    assert list(quality) == ["teacher.onnx", shipped]
    for name, key in (("teacher.onnx", "teacher"), (shipped, quality[shipped]["model"])):
        entry, tests = quality[name], finished_report["dataset"]["test"]
        confusion = entry["confusion"]
        assert sum(map(sum, confusion)) == tests == sum(one["examples"] for one in entry["bins"])
        right = sum(confusion[place][place] for place in range(10))
        assert right / tests == pytest.approx(finished_report["models"][key]["accuracy"])
        f1 = [one["f1"] or 0 for one in entry["classes"]]
        macro_f1 = finished_report["models"][key]["macro_f1"]
        assert sum(f1) / 10 == pytest.approx(macro_f1)
        assert entry["calibrated_on"] == finished_report["judgement"]["validation"]["examples"]
        assert entry["energy"]["operations"] > 0
        if not entry["energy"]["measured"]:
            assert "not measured" in entry["energy"]["source"]


def test_both_curves_of_the_cascade_begin_with_the_student_and_end_with_the_teacher(
    finished_report: dict[str, Any],
) -> None:
    cascade, models = finished_report["cascade"], finished_report["models"]
    student = finished_report["quality"][cascade["student"]]["model"]
    first, last = cascade["test"][0], cascade["test"][-1]
    assert (first["share"], last["share"]) == (0, 1)
    assert first["accuracy"] == pytest.approx(models[student]["accuracy"])
    assert last["accuracy"] == pytest.approx(models["teacher"]["accuracy"])
    assert cascade["public"][cascade["chosen"]]["share"] <= 0.1 + 1e-9
    assert cascade["costs"][0]["milliseconds"] < 50 < cascade["costs"][-1]["milliseconds"]


def test_another_wish_is_a_matter_of_the_report_alone(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(finished_run, copied)
    before = json.loads((copied / "report.json").read_text())
    wished = ("cascade.share=1", "cascade.round_trip_ms=0", "tracking.progress=false")
    assert run(["report", str(copied), *wished]) == 0
    after = json.loads((copied / "report.json").read_text())
    assert after["quality"] == before["quality"]
    best = max(one["accuracy"] for one in after["cascade"]["public"])
    chosen = after["cascade"]["public"][after["cascade"]["chosen"]]
    assert chosen["accuracy"] == best
    calibration = json.loads((copied / "deploy" / "calibration.json").read_text())["student.onnx"]
    assert calibration["threshold"] == chosen["threshold"]
    assert verify_bundle(copied / "deploy").faults == []
    (copied / "deploy" / "calibration.json").write_text('{"student.onnx": {"temperature": 0}}')
    assert verify_bundle(copied / "deploy").faults == ["calibration.json: changed"]
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(["0"] * 64) + "\n")
    assert "calibration.json: damaged" in refusal(capsys, 1, "predict", str(copied), str(rows))


def test_a_run_of_before_is_reported_and_served_as_it_was(
    finished_run: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(finished_run, copied)
    state = json.loads((copied / "state.json").read_text())
    for name in ("quality", "cascade"):
        del state["stages"]["evaluate"][name]
    (copied / "state.json").write_text(json.dumps(state))
    assert run(["report", str(copied), "tracking.progress=false"]) == 0
    assert not {"quality", "cascade"} & set(json.loads((copied / "report.json").read_text()))
    assert "When to ask the teacher" not in (copied / "report.md").read_text()
    assert not (copied / "deploy" / "calibration.json").exists()
    assert verify_bundle(copied / "deploy").faults == []
    assert "were not calibrated" in (copied / "deploy" / "MODEL_CARD.md").read_text()


def test_a_report_says_it_in_words(finished_report: dict[str, Any]) -> None:
    report: Any = finished_report
    name = report["cascade"]["student"]
    text = quality_markdown(name, report)
    for words in ("| Class | Examples |", "Most often confused:", "temperature", "Energy of one"):
        assert words in text
    text = cascade_markdown(report)
    assert "No epsilon of this report covers what is sent" in text
    assert f"on {report['cascade']['public_examples']} public examples" in text


def test_missed_wishes_and_uncalibrated_models_are_called_so(
    finished_report: dict[str, Any],
) -> None:
    report: Any = copy.deepcopy(finished_report)
    report["cascade"] |= {"wished_accuracy": 0.999, "reached": False}
    assert "for an accuracy of 99.9%, which no threshold reaches" in cascade_markdown(report)
    report["quality"]["teacher.onnx"] |= {"calibrated_on": 0, "temperature": 1.0}
    assert "were not calibrated: too few" in quality_markdown("teacher.onnx", report)


def test_of_many_classes_the_worst_are_shown(finished_report: dict[str, Any]) -> None:
    report: Any = copy.deepcopy(finished_report)
    entry = report["quality"]["teacher.onnx"]
    entry["classes"] = [
        {"class_name": f"c{place}", "examples": 5, "answered": 5, "precision": place / 100,
         "recall": place / 100, "f1": place / 100}
        for place in range(100)
    ]  # fmt: skip
    entry["confusion"] = [[0] * 100 for _ in range(100)]
    text = quality_markdown("teacher.onnx", report)
    assert "The 30 worst of 100 classes" in text
    assert "| c29 |" in text
    assert "| c30 |" not in text


def test_pictures_are_drawn_with_and_without_joules(finished_report: dict[str, Any]) -> None:
    report: Any = copy.deepcopy(finished_report)
    assert len(cascade_chart(report).axes) == 3
    for one in report["cascade"]["costs"]:
        one["joules"] = None
    assert len(cascade_chart(report).axes) == 2
    assert len(reliability_diagram(report).axes) == 2


def test_costs_are_the_students_and_a_share_of_the_teachers() -> None:
    points: Any = [{"threshold": 0, "share": share, "accuracy": 1} for share in (0.0, 0.5)]
    found = cascade_costs(points, (1.0, 9.0), (2.0, 30.0), round_trip_ms=41.0)
    assert found == [
        {"milliseconds": 1.0, "joules": 2.0},
        {"milliseconds": 26.0, "joules": 17.0},
    ]
    assert cascade_costs(points, (1.0, 9.0), (None, 30.0), 0.0)[1]["joules"] is None


def test_numbers_are_no_finer_than_they_are_known() -> None:
    assert [joules_text(one) for one in (2.0, 0.0123, 3.412e-6, 4.2e-10)] == [
        "2 J", "12 mJ", "3.4 µJ", "0.42 nJ"
    ]  # fmt: skip
    assert [count_text(one) for one in (12, 61234, 2.53e6, 1.8e9)] == [
        "12", "61.2 thousand", "2.53 million", "1.8 billion"
    ]  # fmt: skip
