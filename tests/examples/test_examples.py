"""The examples run as they are printed."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_federation_as_one_loop(tmp_path: Path) -> None:
    script = EXAMPLES / "federated_loop.py"
    assert len(script.read_text().splitlines()) <= 120
    small = ["--rounds", "2", "--clients", "3", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, str(script), *small], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first, *rounds = done.stdout.splitlines()
    assert first.startswith("teacher 0.")
    assert [line.split(":")[0] for line in rounds] == ["round 1", "round 2"]
    spent = [float(line.rsplit(" ", 1)[1]) for line in rounds]
    assert 0 < spent[0] < spent[1] <= 8.0


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    shown = {
        cell.source: cell.outputs[-1].data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.outputs and "data" in cell.outputs[-1]
    }
    assert 0 < eval(shown["run.spent()"])["example"] <= 8.0
    assert "faults=[]" in shown['fedlite.verify("quickstart")']
