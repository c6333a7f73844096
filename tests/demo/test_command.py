"""``fedlite demo``: from a finished run to a page, and one line where there is none."""

import json
import shutil
from pathlib import Path

import pytest

from fedlite.cli.main import run
from fedlite.data.splits import load_splits
from fedlite.runs.compose import compose_config
from tests.compress.conftest import Digits

from .conftest import report_of


@pytest.fixture
def run_dir(tmp_path: Path, bundle: Path, digits: Digits) -> Path:
    """A run directory as far as the command reads it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "overrides.json").write_text('["dataset=digits", "seed=3"]')
    (folder / "report.json").write_text(json.dumps(report_of(digits.task, 797)))
    shutil.copytree(bundle, folder / "deploy")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["demo", *arguments]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_page_of_a_run_shows_its_public_examples(run_dir, ort, capsys):
    assert run(["demo", f"run.dir={run_dir}", f"ort={ort}"]) == 0
    shown = capsys.readouterr().out
    assert f"python -m http.server --directory {run_dir / 'demo'} 8000" in shown
    content = json.loads((run_dir / "demo" / "demo.json").read_text())
    config = compose_config(["dataset=digits", "seed=3"])
    splits = load_splits(config.dataset, config.partition, 20, config.seed)
    public = splits.public_validation.inputs.flatten(1)
    for sample in content["samples"]:
        shown = splits.task.prepare(public.new_tensor(sample["values"]).reshape(1, 1, 8, 8))
        assert float((public - shown.flatten(1)).abs().amax(1).min()) < 1e-4


def test_the_run_may_be_named_as_a_word(run_dir, ort):
    assert run(["demo", str(run_dir), f"ort={ort}"]) == 0
    assert (run_dir / "demo" / "index.html").is_file()


def test_the_page_goes_where_it_is_told(run_dir, ort, tmp_path):
    output = tmp_path / "elsewhere" / "page"
    assert run(["demo", f"run.dir={run_dir}", f"ort={ort}", f"output={output}"]) == 0
    assert (output / "index.html").is_file()
    assert not (run_dir / "demo").exists()


def test_what_cannot_become_a_page_is_told_in_one_line(run_dir, tmp_path, capsys):
    directory = f"run.dir={run_dir}"
    assert "give the run directory: fedlite demo DIR" in refused(capsys)
    assert "no run there" in refused(capsys, f"run.dir={tmp_path}")
    assert "no run there" in refused(capsys, str(tmp_path))
    assert "output=: missing; give output=" in refused(capsys, directory, "output=")
    assert "ort=: missing; give ort=" in refused(capsys, directory, "ort=")
    assert "give one directory, not 'ort run.dir=" in refused(capsys, directory, "ort")
    assert "ort: given twice" in refused(capsys, directory, "ort=a", "ort=b")
    assert "unknown flag" in refused(capsys, directory, "--fast")
    assert "expected the unpacked package" in refused(capsys, directory, f"ort={tmp_path}")
    (run_dir / "deploy" / "labels.json").write_text("[]")
    assert "labels.json: changed" in refused(capsys, directory)
    (run_dir / "report.json").unlink()
    assert "nothing ships there yet" in refused(capsys, directory)
