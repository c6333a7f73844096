"""Whole runs: what they write, the options together, real data, sweeps, stages, prediction."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlite import load_run
from fedlite.cli.main import run
from fedlite.privacy.accounting import compute_epsilon
from fedlite.report.words import epsilon_text, human_bytes
from tests.conftest import REPOSITORY, TINY
from tests.e2e.command import refusal
from tests.int8 import needs_exact_int8

QUICK = ("privacy.accountant=rdp", "federation.rounds=2")
MLP = ("student=mlp", "student.kwargs.hidden=[16]")  # exported and checked in no time

MODEL = {
    "accuracy",
    "macro_f1",
    "parameters",
    "bytes",
    "gzip_bytes",
    "latency_ms",
    "latency_ms_by_batch",
    "load_ms",
    "peak_memory_bytes",
    "runtime",
}
BASELINE = MODEL - {"latency_ms"} | {"name", "model", "format", "precision", "refused"}
ARTEFACT = BASELINE | {
    "file",
    "snr_db",
    "agreement",
    "public_accuracy",
    "accuracy_drop",
    "float_ops",
}
UNIT = {
    "unit",
    "epsilon_max",
    "epsilon_mean",
    "epsilon_p95",
    "epsilon_rdp_max",
    "delta",
    "budget",
    "noise_multiplier",
    "max_grad_norm",
    "sample_rate",
    "expected_batch_size",
    "sampling",
    "steps",
    "participations_max",
    "groups",
    "max_participations",
    "adjacency",
    "accountant",
    "trust",
    "randomness",
}
ROUND = {
    "round",
    "evaluation",
    "clients_trained",
    "clients_refused",
    "clients_failed",
    "epsilon",
    "bytes_down",
    "bytes_up",
    "teacher_bytes",
    "seconds",
    "released",
    "refusals",
    "client_level_epsilon",
    "clip",
}
SECTIONS: dict[str, set[str]] = {
    "run": {"dir", "run_id", "seed", "written", "command"},
    "dataset": {"name", "classes", "public", "private", "test", "evaluated_on", "partition"},
    "models": {
        "teacher",
        "public_student",
        "federated_student",
        "pruned_student",
        "quantized_student",
    },
    "privacy": {"private", "randomness", "protects", "units", "derived_constants"},
    "judgement": {"ships", "keep", "validation", "test"},
    "federation": {
        "num_clients",
        "rounds",
        "clients_per_round",
        "strategy",
        "engine",
        "local_steps",
        "clients_trained",
        "clients_refused",
        "clients_failed",
        "rounds_planned",
        "refusals",
        "rounds_not_released",
        "stopped",
        "epsilons",
    },
    "compression": {
        "norms",
        "ratio",
        "criterion",
        "recovery_steps",
        "sparsity",
        "quantization",
        "bits",
        "folded_norms",
        "public_accuracy",
        "judges",
        "shipped",
        "parameters_before",
        "parameters_folded",
        "parameters_after",
        "nonzero_weights",
        "max_difference",
        "float_ops",
        "gzip_bytes",
    },
    "traffic": {"bytes_down", "bytes_up", "teacher_bytes"},
    "timing": {"teacher", "warm_start", "plan", "federate", "compress", "evaluate", "total"},
}
if sys.platform == "linux":  # no other system tells
    SECTIONS["memory"] = {"process_bytes"}


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_the_report_has_exactly_the_documented_keys(finished_run: Path) -> None:
    report = read_report(finished_run)
    others = {"schema_version", "environment", "config", "changed", "history", "audits"}
    others |= {"artefacts", "search", "quality", "cascade"}
    assert set(report) == set(SECTIONS) | others
    for section, keys in SECTIONS.items():
        assert set(report[section]) == keys, section
    for model in report["models"].values():
        assert set(model) == MODEL
        assert set(model["latency_ms"]) == {"p50", "p95", "min"}
    for entry in report["artefacts"]:
        assert set(entry) == (BASELINE if entry["format"] == "torch" else ARTEFACT)
    assert report["search"] is None
    (unit,) = report["privacy"]["units"]
    assert set(unit) == UNIT
    assert len(report["history"]) == 3
    for entry in report["history"]:
        assert set(entry) == ROUND
        assert set(entry["evaluation"]) == {"accuracy", "macro_f1", "loss"}
        assert set(entry["seconds"]) == {"train", "aggregate", "evaluate", "checkpoint", "total"}

    text = (REPOSITORY / "docs" / "report.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    known = set(report).union(MODEL, ARTEFACT, UNIT, ROUND, *SECTIONS.values())
    assert known - documented == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process takes")
def test_memory_is_in_report_and_log(finished_run: Path) -> None:
    taken = read_report(finished_run)["memory"]["process_bytes"]
    assert 100_000_000 < taken < 100_000_000_000
    (line,) = re.findall(r"peak memory: .*", (finished_run / "fedlite.log").read_text())
    assert line == f"peak memory: the run's process {human_bytes(taken)}"
    assert (
        f"| Memory, the run's process | {human_bytes(taken)} |"
        in (finished_run / "report.md").read_text()
    )


def test_the_report_s_numbers_fit_each_other(finished_run: Path) -> None:
    report = read_report(finished_run)
    models = report["models"]
    assert models["quantized_student"]["bytes"] < models["pruned_student"]["bytes"]
    assert models["pruned_student"]["bytes"] < models["federated_student"]["bytes"]
    assert models["pruned_student"]["parameters"] == report["compression"]["parameters_after"]
    for name, model in models.items():
        assert model["bytes"] == (finished_run / "models" / f"{name}.onnx").stat().st_size
    (unit,) = report["privacy"]["units"]
    assert 0 < unit["epsilon_mean"] <= unit["epsilon_max"] <= unit["budget"]
    assert unit["epsilon_max"] == report["history"][-1]["epsilon"]["max"]
    data = report["dataset"]
    assert data["public"] + data["private"] + data["test"] == 1797
    traffic = report["traffic"]
    assert traffic["bytes_up"] == sum(entry["bytes_up"] for entry in report["history"])
    assert traffic["bytes_down"] > traffic["bytes_up"]


@needs_exact_int8
def test_the_bundle_s_sums_hold_and_its_model_is_the_final_one(finished_run: Path) -> None:
    deploy = finished_run / "deploy"
    lines = (deploy / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == {
        path.name for path in deploy.iterdir() if path.name != "SHA256SUMS"
    }
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((deploy / name).read_bytes()).hexdigest() == digest
    final = finished_run / "models" / "quantized_student.onnx"
    assert (deploy / "student.onnx").read_bytes() == final.read_bytes()


def test_predict_reads_images_arrays_and_tables(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = load_digits().images[:5]
    np.savez(tmp_path / "digits.npz", inputs=images)
    rows = [",".join(str(value) for value in image.ravel()) for image in images]
    (tmp_path / "digits.csv").write_text("\n".join(rows) + "\n")
    Image.fromarray((images[0] * 255 / 16).round().astype(np.uint8)).save(tmp_path / "digit.png")
    capsys.readouterr()
    shown: dict[str, list[str]] = {}
    for name in ("digits.npz", "digits.csv", "digit.png"):
        model = f"model={finished_run / 'deploy' / 'student.onnx'}"
        assert run(["predict", model, f"input={tmp_path / name}"]) == 0
        shown[name] = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()]
    assert len(shown["digits.npz"]) == 5
    assert shown["digits.npz"] == shown["digits.csv"]
    assert shown["digit.png"][0][0] == shown["digits.npz"][0][0]
    for line in shown["digits.npz"]:
        assert re.fullmatch(r"(\d [01]\.\d{3}  ){4}\d [01]\.\d{3}", line)


def test_a_known_teacher_is_not_trained_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(["teacher", *TINY, f"run.dir={tmp_path / 'before'}"]) == 0
    assert run(["teacher", *TINY, f"run.dir={folder}"]) == 0
    stages = json.loads((folder / "state.json").read_text())["stages"]
    assert stages["teacher"]["source"] == "cache"
    assert run(["federate", f"run.dir={folder}", "distill.warm_start.epochs=1"]) == 0
    assert (folder / "federated_student.pt").exists()


def says_not_private(folder: Path) -> list[bool]:
    """Whether report, model card and TensorBoard events say it."""
    events = b"".join(path.read_bytes() for path in folder.glob("events.*"))
    texts = [(folder / name).read_text() for name in ("report.md", "deploy/MODEL_CARD.md")]
    return [*("NOT PRIVATE" in text for text in texts), b"0_NOT_PRIVATE/warning" in events]


def test_a_private_run_does_not_say_not_private(finished_run: Path) -> None:
    assert says_not_private(finished_run) == [False, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("randomness", ["none", "deterministic"])
def test_runs_without_a_guarantee_say_so_everywhere(
    randomness: str, unprivate_run: Path, deterministic_run: Path
) -> None:
    folder = unprivate_run if randomness == "none" else deterministic_run
    assert says_not_private(folder) == [True, True, True]
    assert bool(read_report(folder)["privacy"]["units"]) == (randomness == "deterministic")


@pytest.mark.slow
def test_nothing_compressed_is_the_federated_student(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = (*MLP, "compress=none", "distill=hard", "tracking=quiet")
    assert run(["simulate", *TINY, *QUICK, f"run.dir={folder}", *options]) == 0
    models = read_report(folder)["models"]
    assert "quantized_student" not in models
    accuracy = models["federated_student"]["accuracy"]
    assert models["pruned_student"]["accuracy"] == accuracy
    (shipped,) = read_report(folder)["compression"]["shipped"].values()
    assert shipped == "pruned_student.onnx"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["federation=fedadam", "partition=dirichlet"],
        ["federation=fedprox", "partition=pathological", "distill=hard"],
        ["federation=fedavgm", "partition=size"],
        ["federation.fraction=0.5", "federation.sampling=bernoulli", "partition=shards"],
        ["teacher=resnet", "teacher.kwargs.channels=[8,8,8]", "teacher.kwargs.depths=[1,1,1]"],
        ["distill=relational", "privacy=none"],
        ["distill.warm_start.enabled=false", "privacy.noise_multiplier=2", "privacy.epsilon=null"],
    ],
    ids=" ".join,
)
def test_options_work_together(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tiny = [
        option for option in TINY if "teacher.kwargs" not in option or "resnet" not in options[0]
    ]
    assert run(["federate", *tiny, *QUICK, f"run.dir={folder}", *options]) == 0
    facts = json.loads((folder / "state.json").read_text())["stages"]["federate"]
    assert len(facts["history"]) == 2
    assert all(entry["clients_failed"] == 0 for entry in facts["history"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "clients"),
    [
        (["dataset=fashion_mnist", "federation.num_clients=100", "federation.fraction=0.02"], 100),
        (["dataset=har", "partition=natural", "federation.fraction=0.2"], None),
        (["dataset=mnist_writers", "partition=natural", "federation.fraction=0.005"], None),
    ],
    ids=["fashion_mnist", "har", "mnist_writers"],
)
def test_real_data(
    options: list[str],
    clients: int | None,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDLITE_DATA", str(data_dir))
    folder = tmp_path / "run"
    light = ["dataset.public_size=600", "teacher.epochs=1", "distill.warm_start.epochs=1"]
    light += ["federation.rounds=1", "privacy.sample_rate=0.1", "student=mlp"]
    tiny = [option for option in TINY if "num_clients" not in option and "dataset" not in option]
    assert run(["federate", *tiny, *QUICK, f"run.dir={folder}", *light, *options]) == 0
    stages = json.loads((folder / "state.json").read_text())["stages"]
    (entry,) = stages["federate"]["history"]
    assert entry["clients_trained"] >= 2
    epsilons = stages["federate"]["epsilons"]
    assert clients is None or len(epsilons) == clients
    assert max(epsilons) == entry["epsilon"]["max"] > 0


@pytest.mark.slow
def test_a_sweep_runs_its_jobs_and_ends_with_a_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    options = ["-m", "privacy.epsilon=4,8", *MLP]
    assert run(["simulate", *TINY, *QUICK, f"run.dir={folder}", *options]) == 0
    budgets = [read_report(folder / job)["privacy"]["units"][0]["budget"] for job in ("0", "1")]
    assert budgets == [4, 8]
    shown = capfd.readouterr().out
    assert "Sweep: test accuracy, 2 jobs" in shown
    table = (folder / "sweep.md").read_text()
    assert "privacy.epsilon" in table
    assert len((folder / "sweep.csv").read_text().splitlines()) == 3
    # The same clients' examples were in both jobs: the larger budget is not what they spent.
    together = read_report(folder / "0")["privacy"]["together"]
    (unit,) = together["units"]
    ledgers = [load_run(folder / job).ledgers()["digits-client-0000"] for job in ("0", "1")]
    history = [charge.segment for ledger in ledgers for charge in ledger]
    epsilon = compute_epsilon(history, 1e-5, "rdp")
    assert unit["epsilon"] == pytest.approx(epsilon)
    assert epsilon > 8.5
    words = f"All 2 jobs together: epsilon {epsilon_text(epsilon)} at delta 1e-05"
    card = (folder / "1" / "deploy" / "MODEL_CARD.md").read_text()
    for text in (shown, table, card, (folder / "1" / "report.md").read_text()):
        assert words in " ".join(text.split())
    assert "dataset.evaluate_on=holdout" in table
    board = EventAccumulator(str(folder)).Reload()
    (event,) = board.Scalars("2_how_private/example_level_epsilon_of_all_jobs")
    assert event.value == pytest.approx(epsilon)
    assert list((folder / "1" / "epsilon=8").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_compressing_again_changes_the_compressed_models_alone(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    assert run(["compress", f"run.dir={folder}", "compress.ratio=0.6"]) == 0
    old, new = read_report(finished_run), read_report(folder)
    assert new["compression"]["ratio"] == 0.6
    assert new["compression"]["parameters_after"] < old["compression"]["parameters_after"]
    for name in ("teacher.pt", "public_student.pt", "federated_student.pt", "checkpoint.pt"):
        assert (folder / name).read_bytes() == (finished_run / name).read_bytes()
    for name in ("teacher", "public_student", "federated_student"):
        assert new["models"][name]["accuracy"] == old["models"][name]["accuracy"]
    assert new["privacy"] == old["privacy"]
    assert new["history"] == old["history"]

    line = refusal(capsys, 2, "report", f"run.dir={folder}", "compress.ratio=0.1")
    assert "has not run there with these options" in line
    (folder / "report.md").unlink()
    assert run(["report", f"run.dir={folder}"]) == 0
    assert (folder / "report.md").exists()
