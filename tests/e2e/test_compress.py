"""Compressing, searching and shipping by command, as a person would."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedlite.base.files import replace_folder
from fedlite.cli.main import run
from fedlite.runs.stages import compress
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.int8 import needs_exact_int8


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.fixture
def again(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to compress it again."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    return folder


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@needs_exact_int8
def test_every_file_is_judged_and_measured(finished_run: Path) -> None:
    report = report_of(finished_run)
    rows = {row["name"]: row for row in report["artefacts"]}
    assert set(rows) == {
        "teacher.torch",
        "federated_student.torch",
        "pruned_student.onnx",
        "quantized_student.onnx",
    }
    int8 = rows["quantized_student.onnx"]
    file = finished_run / int8["file"]
    assert int8["bytes"] == file.stat().st_size
    assert int8["gzip_bytes"] < int8["bytes"]
    assert int8["precision"] == "int8"
    assert set(int8["latency_ms_by_batch"]) == {"1", "32"}
    for latency in int8["latency_ms_by_batch"].values():
        assert 0 < latency["min"] <= latency["p50"] <= latency["p95"]
    for key in ("snr_db", "agreement", "public_accuracy", "load_ms", "peak_memory_bytes"):
        assert int8[key] > 0
    assert report["compression"]["shipped"] == {"onnx": "quantized_student.onnx"}
    assert (finished_run / "deploy/student.onnx").read_bytes() == file.read_bytes()
    with (finished_run / "artefacts.csv").open(newline="") as lines:
        assert set(rows) < {line["name"] for line in csv.DictReader(lines)}
    assert run(["verify", str(finished_run / "deploy")]) == 0


@pytest.mark.slow
def test_norms_are_folded_on_request(deterministic_run: Path) -> None:
    report = report_of(deterministic_run)
    folded = report["models"]["folded_student"]
    assert folded["parameters"] < report["models"]["federated_student"]["parameters"]
    assert report["compression"]["folded_norms"]
    known = report["compression"]["public_accuracy"]
    assert set(known) == {"federated_student", "folded_student", "pruned_student"}
    assert "norms folded" in (deterministic_run / "report.md").read_text()


@pytest.mark.slow
def test_a_search_delivers_the_best_within_its_limits(again: Path) -> None:
    options = (
        "compress=search",
        "compress.search.trials=3",
        "compress.search.population=2",
        "compress.search.recovery_steps=[2,4]",
        "compress.search.norms=[keep]",
        "compress.target.bytes=100000",
        "compress.max_accuracy_drop=0.9",
    )
    assert run(["compress", f"run.dir={again}", *options]) == 0
    report = report_of(again)
    search = report["search"]
    assert (search["trials"], search["reached"]) == (3, True)
    for option, value in search["chosen"].items():
        assert report["compression"][option] == value
    assert report["models"]["pruned_student"]["bytes"] <= 100_000
    assert search["text"] in (again / "report.md").read_text()


@needs_exact_int8
@pytest.mark.slow
def test_a_target_out_of_reach_gives_the_best_and_says_how_near_it_came(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "compress=search",
        "compress.ratio=0",
        "compress.recovery_steps=2",
        "compress.search.trials=3",
        "compress.search.population=2",
        "compress.search.recovery_steps=[2]",
        "compress.search.norms=[keep]",
        "compress.search.quantizations=[static]",
        "compress.target.bytes=10",
        "compress.max_accuracy_drop=0.03",
    )
    assert run(["compress", f"run.dir={again}", *options]) == 0
    report = report_of(again)
    assert report["search"]["reached"] is False
    assert "where 10 B is the limit" in report["search"]["text"]
    assert report["search"]["text"] in " ".join(capsys.readouterr().out.split())
    assert report["compression"]["shipped"] == {"onnx": "quantized_student.onnx"}
    assert report["models"]["quantized_student"]["bytes"] == report["search"]["best"]["bytes"]


@pytest.mark.slow
def test_a_student_that_was_searched_for_is_federated(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    options = (
        "search_student.trials=3",
        "search_student.population=2",
        "search_student.steps=3",
        "search_student.widths=[8,12]",
        "search_student.depths=[1]",
        "search_student.stages=[2]",
        "search_student.max_accuracy_drop=1",  # the smallest wins: not the one set by hand
    )
    assert run(["search-student", *TINY, *options, f"run.dir={folder}"]) == 0
    winner = folder / "search_student" / "student.yaml"
    found = yaml.safe_load(winner.read_text())
    assert found["module"] == "fedlite.models.staged.StagedNet"
    run_dir = tmp_path / "run"
    options = ("federation.rounds=1", f"student={winner}", f"run.dir={run_dir}")
    assert run(["federate", *TINY, *options]) == 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["student"]["kwargs"] == found["kwargs"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("compress.ratio=1.2", ["compress.ratio=1.2", "< 1"]),
        ("compress.bits=3", ["compress.bits=3", "8, 4"]),
        ("compress.bits=4", ["compress.bits=4", "weight_only"]),
        ("compress.formats=[tflite]", ["compress.formats", "litert"]),
        ("compress.formats=[]", ["compress.formats", "onnx"]),
        ("compress.quantization=int3", ["compress.quantization=int3", "weight_only"]),
        ("compress.criterion=l3", ["compress.criterion=l3", "taylor"]),
        ("+compress.layer_ratios.nowhere=0.5", ["nowhere"]),
        ("+compress.layer_ratios.head=1.5", ["layer_ratios.head=1.5", "< 1"]),
        ("+compress.converters.onnnx=python", ["converters.onnnx", "litert"]),
        ("compress.signing_key=/no/such/key.pem", ["/no/such/key.pem"]),
        ("compress.target.bytes=0", ["compress.target.bytes=0", ">= 1"]),
        ("compress.measure.batch_sizes=[32]", ["batch_sizes", "must hold 1"]),
    ],
)
def test_bad_options_are_one_line_and_keep_what_was_made(
    option: str,
    words: list[str],
    again: Path,
    finished_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["compress", f"run.dir={again}", option]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    for folder in ("models", "deploy"):
        assert files_below(again / folder) == files_below(finished_run / folder)


@pytest.mark.slow
def test_a_compression_that_fails_keeps_the_earlier_one(
    again: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files were made before they were refused; the earlier ones stay, and so does the run."""
    options = ("compress.ratio=0.7", "compress.min_snr_db=199")
    line = refusal(capsys, 1, "compress", f"run.dir={again}", *options)
    assert "no onnx file may ship" in line
    assert run(["report", f"run.dir={again}", "compress.ratio=0.3", "compress.min_snr_db=20"]) == 0
    assert files_below(again / "models") == files_below(finished_run / "models")
    shipped = "deploy/student.onnx"
    assert (again / shipped).read_bytes() == (finished_run / shipped).read_bytes()


def test_a_compression_killed_at_its_end_counts_for_nothing(
    again: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between exchanging the files and writing down that the stage is done."""

    def killed_after_replacing(made: Path, path: Path) -> None:
        replace_folder(made, path)
        assert path == again / "models"
        raise KeyboardInterrupt

    monkeypatch.setattr(compress, "replace_folder", killed_after_replacing)
    assert run(["compress", f"run.dir={again}", "compress.ratio=0.7"]) == 1
    line = refusal(capsys, 2, "report", f"run.dir={again}", "compress.ratio=0.3")
    assert "has not run there with these options" in line


def test_a_damaged_file_is_named_and_its_bundle_fails_to_verify(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = again / "deploy" / "student.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    assert run(["verify", str(again / "deploy")]) == 1
    faults = capsys.readouterr().err.splitlines()
    assert any("student.onnx" in fault for fault in faults)
    assert "damaged" in refusal(
        capsys, 1, "predict", f"model={model}", f"input={again / 'pictures'}/x.png"
    )


@pytest.mark.slow
def test_a_converter_that_is_not_there_is_named_before_anything_runs(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(
        capsys,
        2,
        "compress",
        f"run.dir={again}",
        "compress.formats=[onnx,litert]",
        "+compress.converters.litert=/no/such/python",
    )
    assert "/no/such/python" in line
