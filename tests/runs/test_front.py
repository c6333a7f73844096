"""The front door: the same runs from Python, and an import that costs and touches nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fedlite
from fedlite.runs.stages.table import with_needed
from tests.conftest import TINY

UNTOUCHED = """
import logging, sys
before = (list(sys.argv), logging.getLogger().handlers[:], logging.getLogger().level)
import fedlite
assert (sys.argv, logging.getLogger().handlers, logging.getLogger().level) == before
heavy = {"torch", "flwr", "hydra", "opacus", "numpy", "matplotlib", "pydantic"} & set(sys.modules)
assert not heavy, heavy
assert "simulate" in dir(fedlite)
fedlite.plan
assert not {"torch", "flwr", "opacus"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def finished(finished_run: Path) -> fedlite.Run:
    return fedlite.load_run(finished_run)


def test_importing_costs_and_touches_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_from_python_is_the_run_of_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick = [*(text for text in TINY if text != "tracking.progress=false"), "student=mlp"]
    run = fedlite.simulate(*quick, "federation.rounds=2", dir=tmp_path / "it's here")
    assert capfd.readouterr().out == ""
    assert set(run.spent()) == {"example"}
    assert len(run.ledgers()) == 4
    assert [charge.round for charge in run.ledgers()["digits-client-0000"]] == [1, 2]
    student = run.student()
    public = fedlite.load_splits(*quick).public_validation
    assert student(public.inputs).shape == (len(public), 10)
    assert not student.training
    assert fedlite.verify(run.path).faults == []
    with pytest.raises(fedlite.UsageError, match="holds a run already"):
        fedlite.simulate(*quick, dir=run.path)
    again = fedlite.simulate("compress.ratio=0.5", dir=run.path, resume=True)
    assert again.config.compress.ratio == 0.5
    assert again.config.federation.rounds == 2, "the options it was started with hold"
    assert again.spent() == run.spent()
    saved = json.loads((run.path / "overrides.json").read_text())
    assert not any("progress" in text for text in saved), "how it is shown is no option of the run"


def test_the_student_is_the_one_that_was_federated(finished: fedlite.Run) -> None:
    saved = torch.load(finished.path / "federated_student.pt", weights_only=True)
    state = finished.student().state_dict()
    assert all(torch.equal(state[name], value) for name, value in saved.items())


def test_the_report_says_what_was_spent(finished: fedlite.Run) -> None:
    (unit,) = finished.report["privacy"]["units"]
    assert finished.spent() == {"example": unit["epsilon_max"]}


def test_predict_takes_a_run_a_folder_or_a_file(finished: fedlite.Run, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(",".join(["0"] * 64) + "\n")
    answers = [
        fedlite.predict(place, tmp_path / "rows.csv")[0].probabilities
        for place in (
            finished.path,
            finished.path / "deploy",
            finished.path / "deploy" / "student.onnx",
        )
    ]
    assert answers[0] == answers[1] == answers[2]


def test_plan_tells_before_training_what_a_run_will_spend() -> None:
    forecast = fedlite.plan("privacy.epsilon=4", "federation.num_clients=10", "federation.rounds=5")
    chosen = forecast.guarantees[0]
    assert chosen.chosen
    assert chosen.epsilon_after(5) <= 4
    assert chosen.epsilon_after(1) < chosen.epsilon_after(5)


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(fedlite.UsageError, match="no run there"):
        fedlite.load_run(tmp_path)
    with pytest.raises(fedlite.UsageError, match=r"privacy.epsilon=-1: must be > 0 and finite"):
        fedlite.plan("privacy.epsilon=-1")
    with pytest.raises(fedlite.UsageError, match=r"privacy.epsilon=-1"):
        fedlite.simulate("privacy.epsilon=-1", dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


MAIN_LINE = ("teacher", "warm_start", "plan", "federate", "compress", "evaluate", "report")


def test_simulate_runs_all_that_the_report_needs() -> None:
    assert with_needed("report") == MAIN_LINE
