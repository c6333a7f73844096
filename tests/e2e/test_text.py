"""Texts, from a csv to the file that answers them."""

from pathlib import Path

import numpy as np
import pytest

import fedlite
from fedlite.base.files import read_json
from fedlite.cli.main import run
from tests.conftest import TINY
from tests.e2e.command import refusal

KINDS = ("praise", "complaint", "question")
WORDS = {
    "praise": ["good", "great", "lovely", "fine"],
    "complaint": ["bad", "broken", "awful", "late"],
    "question": ["where", "when", "how", "who"],
}


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hundred short texts of three kinds, in words that tell them apart."""
    draw = np.random.default_rng(0)
    lines = ["body,kind"]
    for i in range(600):
        kind = KINDS[i % 3]
        told = " ".join(draw.choice(["the", "parcel", "is", "it", *WORDS[kind]], size=7))
        lines.append(f'"{told}, {draw.choice(WORDS[kind])}!",{kind}')
    path = tmp_path_factory.mktemp("texts") / "my texts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def options(csv: Path) -> list[str]:
    own = [option for option in TINY if not option.startswith(("dataset=", "teacher.kwargs"))]
    return [
        *own,
        "dataset=text",
        f"dataset.root={csv}",
        "dataset.keys.inputs=body",
        "dataset.keys.labels=kind",
        "dataset.public_size=200",
        "student=text_cnn",
        "teacher=text_cnn",
        "teacher.epochs=12",
        "distill.warm_start.epochs=8",
        "privacy.accountant=rdp",
        "privacy.randomness=deterministic",  # a few texts are asked one by one
    ]


@pytest.mark.slow
def test_texts_are_learnt_from_shipped_and_answered(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(["simulate", *options(csv), f"run.dir={folder}"]) == 0
    report = read_json(folder / "report.json")
    assert report["models"]["quantized_student"]["accuracy"] > 0.9
    (unit,) = report["privacy"]["units"]
    assert 0 < unit["epsilon_max"] <= 8

    entry = read_json(folder / "deploy" / "manifest.json")[0]
    assert (entry["input"]["type"], entry["output"]["type"]) == ("int64", "float32")
    questions = tmp_path / "more.txt"
    typed = ["Where when how who where, how!", "bad broken awful late bad, LATE!"]
    questions.write_text("\n".join([*typed, "日本 😀", "late " * 30_000]) + "\n")
    found = fedlite.predict(folder, questions)
    assert [one.probabilities[0][0] for one in found[:2]] == ["question", "complaint"]
    assert len(found) == 4
    assert all(np.isfinite([share for _, share in one.probabilities]).all() for one in found)

    capsys.readouterr()
    assert run(["predict", str(folder), str(csv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = sum(line.split(": ")[1].split()[0] == KINDS[i % 3] for i, line in enumerate(lines))
    assert len(lines) == 600
    assert right > 540

    assert "give txt (a text on each line)" in refusal(
        capsys, 2, "predict", str(folder), str(folder / "pictures" / "accuracy.png")
    )


def test_networks_that_take_no_texts_are_named_with_what_does(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [one for one in options(csv) if not one.startswith(("student=", "teacher="))]
    own = [*kept, "student=cnn", "teacher=cnn"]
    line = refusal(capsys, 2, "simulate", *own, f"run.dir={tmp_path / 'run'}")
    assert "student=cnn and teacher=cnn" in line
    assert "which are texts; use student=text_cnn teacher=text_cnn" in line
    assert not (tmp_path / "run" / "ledgers").exists()
