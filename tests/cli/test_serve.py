"""``fedlite serve`` and ``fedlite predict ask=URL`` on a whole run."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedlite.base.calibration import probabilities_of
from fedlite.cli.main import run
from fedlite.serve.preprocessing import read_preprocessing
from fedlite.serve.runtime import logits_of, open_runtime
from tests.e2e.command import refusal, start

TOKEN = "a-token-of-the-tests-alone"


@contextmanager
def serving(run_dir: Path, *options: str) -> Iterator[str]:
    """The address of a server in a process of its own; Ctrl-C ends it without a complaint."""
    process = start("serve", str(run_dir), "port=0", *options)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"teacher  {run_dir / 'models' / 'teacher.onnx'}\n"
        found = re.fullmatch(r"ask      (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert found
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, load_digits().images[:40])
    return path


def answers(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[dict], str]:
    """The entries of ``predict --json``, and what is said beside them."""
    capsys.readouterr()
    assert run(["predict", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_device_asks_where_it_is_unsure_and_goes_on_alone_when_the_server_is_gone(
    finished_run: Path, rows: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLITE_TOKEN", TOKEN)
    student, _ = answers(capsys, str(finished_run), str(rows))
    sure = sorted(one["probability"] for one in student)
    threshold = sure[20]  # half of them are unsure
    with serving(finished_run) as url:
        asked, err = answers(
            capsys, str(finished_run), str(rows), f"ask={url}", f"threshold={threshold}"
        )
    told, note = err.splitlines()
    assert told.startswith(f"asking {url}: inputs of which the student is less than")
    assert "no epsilon covers them" in told
    assert note.startswith("note: 20 of 40: the student was unsure: sent to the teacher")
    runtime = open_runtime(finished_run / "models" / "teacher.onnx")
    inputs = read_preprocessing(finished_run / "deploy" / "preprocessing.json").normalise(
        np.load(rows)[:, None]
    )
    report = json.loads((finished_run / "report.json").read_text())
    temperature = report["quality"]["teacher.onnx"]["temperature"]
    teacher = probabilities_of(logits_of(runtime, inputs), temperature)
    for own, other, truth in zip(student, asked, teacher, strict=True):
        if own["probability"] >= threshold:
            assert other == own
        else:
            assert other["notes"] == ["the student was unsure: sent to the teacher, whose answer"
                                      " this is"]  # fmt: skip
            assert other["probability"] == pytest.approx(truth.max(), abs=1e-5)
    alone, err = answers(
        capsys, str(finished_run), str(rows), f"ask={url}", f"threshold={threshold}"
    )
    assert alone == student
    assert err.splitlines()[-1].startswith(f"the student answered alone: {url}: no answer")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("host=0.0.0.0", "in the clear; give cert=FILE key=FILE"),
        ("cert=chain.pem", "key: missing"),
        ("port=70000", "port=70000: must be a whole number from 0 to 65535"),
        ("rows=0", "rows=0: must be a whole number from 1"),
        ("rate=many", "rate=many: must be"),
        ("tokenfile=x", "unknown option 'tokenfile=x'; did you mean token_file?"),
        ("token_file=none", "token_file=none: no such file"),
    ],
)
def test_what_is_typed_wrong_is_usage(
    finished_run: Path, typed: str, words: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDLITE_TOKEN", raising=False)
    assert words in refusal(capsys, 2, "serve", str(finished_run), typed)


def test_asking_wants_a_token_an_address_and_a_share(
    finished_run: Path, rows: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDLITE_TOKEN", raising=False)
    predict = ("predict", str(finished_run), str(rows))
    for typed, words in (
        (["ask=https://teacher.example"], "give token_file=FILE, or the token in FEDLITE_TOKEN"),
        (["threshold=0.5"], "threshold: only with ask=URL"),
        (["ask=https://teacher.example", "threshold=2"], "must be a number from 0 to 1"),
    ):
        assert words in refusal(capsys, 2, *predict, *typed)
    monkeypatch.setenv("FEDLITE_TOKEN", TOKEN)
    assert "in the clear" in refusal(capsys, 2, *predict, "ask=http://teacher.example")
