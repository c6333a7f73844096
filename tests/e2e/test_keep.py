"""Which student ships, in whole runs: chosen, said, chosen anew, and as old directories had it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedlite.cli.main import run
from tests.conftest import TINY
from tests.e2e.command import refusal

# Steps that throw the student far off, so that no draw of the noise decides the test.
RUINED = (
    "federation.keep=best",
    "federation.learning_rate=50",
    "federation.ema_decay=0",
    "privacy.accountant=rdp",
    "federation.rounds=1",
)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def weights(folder: Path, name: str) -> str:
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_better_student_ships_and_everything_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    eager = "compress.measure.eager=true"
    assert run(["simulate", *TINY, *RUINED, eager, f"run.dir={folder}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    found = read(folder, "report.json")["judgement"]
    assert found["ships"] == "public_student"
    assert found["test"]["verdict"] == "worse"
    card = (folder / "deploy" / "MODEL_CARD.md").read_text()
    report = (folder / "report.md").read_text()
    for text in (shown, card, report):
        assert "The public-only student ships because it is right more often" in text
        assert "The private data bought nothing: the public-only student is better by" in text
        assert "improved" not in text
    assert "on public data alone, and shipped in place of what was made of it by 4 clients" in card
    timed = [one["model"] for one in read(folder, "report.json")["artefacts"]
             if one["format"] == "torch"]  # fmt: skip
    assert timed == ["teacher", "public_student"]

    # Another choice is one of compression: no ledger, no round and no student changes.
    before = weights(folder, "federated_student.pt"), read(folder, "report.json")["history"]
    assert run(["compress", f"run.dir={folder}", "federation.keep=last"]) == 0
    found = read(folder, "report.json")["judgement"]
    assert (found["ships"], found["keep"]) == ("federated_student", "last")
    assert before == (
        weights(folder, "federated_student.pt"),
        read(folder, "report.json")["history"],
    )
    card = (folder / "deploy" / "MODEL_CARD.md").read_text()
    assert "The federated student ships: federation.keep=last asks for it" in card
    assert "which must not choose, the other one is better" in card


@pytest.mark.slow
def test_a_directory_of_before_the_choice_is_reported_as_it_is(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    state = read(folder, "state.json")
    for stage, key in (
        ("compress", "kept"),
        ("compress", "validation"),
        ("evaluate", "tested_pair"),
    ):
        del state["stages"][stage][key]
    state["stages"]["federate"].pop("memory", None)  # not every system tells
    (folder / "state.json").write_text(json.dumps(state))
    shipped = weights(folder, "deploy/student.onnx")
    assert run(["report", f"run.dir={folder}"]) == 0
    assert weights(folder, "deploy/student.onnx") == shipped
    found = read(folder, "report.json")["judgement"]
    assert found == {
        "ships": "federated_student",
        "keep": "last",
        "validation": None,
        "test": None,
    }
    assert "memory" not in read(folder, "report.json")
    assert "not compared example by example" in (folder / "report.md").read_text()
    planned = state["stages"]["plan"]["plans"]["example"]["expected_examples"]
    line = refusal(capsys, 2, "report", f"run.dir={folder}", "privacy.expected_examples=7")
    assert f"expected_examples=7: this run was planned with {planned}" in line
    given = f"privacy.expected_examples={planned}"  # what was worked out may be given later
    assert run(["evaluate", f"run.dir={folder}", given]) == 0
    assert read(folder, "report.json")["judgement"]["test"]["examples"] == 359
