"""``fedlite predict``: folders, tables and JSON, and one line for each file that fails."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fedlite.cli.main import run
from tests.e2e.command import refusal

DIGITS = 6


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of digits, one in a folder of its own."""
    folder = tmp_path / "Jörg (1)" / "pictures"
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(load_digits().images[:DIGITS]):
        where = folder / "more" if i == 0 else folder
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(where / f"{i}.png")
    return folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """What is printed, on standard output and on standard error."""
    capsys.readouterr()
    assert run(["predict", *arguments]) == code
    return tuple(capsys.readouterr())


def test_a_folder_is_answered_file_by_file(finished_run, pictures, capsys) -> None:
    out, err = shown(capsys, str(finished_run), str(pictures))
    assert [line.split(":")[0] for line in out.splitlines()] == [
        *(f"{i}.png" for i in range(1, DIGITS)),
        "more/0.png",
    ]
    assert err == ""
    named, _ = shown(capsys, str(finished_run), f"input={pictures}")
    assert named == out


def test_several_inputs_are_answered_in_their_order(finished_run, pictures, capsys) -> None:
    files = [str(pictures / "3.png"), str(pictures / "1.png")]
    out, _ = shown(capsys, str(finished_run), *files)
    assert [line.split(": ")[0] for line in out.splitlines()] == files
    again, _ = shown(capsys, f"run.dir='{finished_run}'", *files)
    assert again == out


def test_json_is_all_that_is_printed(finished_run, pictures, capsys) -> None:
    for typed in ("--json", "json=true"):
        out, _ = shown(capsys, str(finished_run), str(pictures), typed)
        entries = json.loads(out)
        assert len(entries) == DIGITS
        for entry in entries:
            assert sum(entry["probabilities"].values()) == pytest.approx(1)
            assert entry["probabilities"][entry["class"]] == entry["probability"]


def test_a_table_holds_the_probability_of_every_class(finished_run, pictures, capsys) -> None:
    table = pictures.parent / "answers.csv"
    out, _ = shown(capsys, str(finished_run), str(pictures), f"output={table}")
    assert out == f"{DIGITS} predictions  {table}\n"
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["source", "class", "probability", *map(str, range(10))]
    entries = json.loads(shown(capsys, str(finished_run), str(pictures), "--json")[0])
    for line, entry in zip(lines, entries, strict=True):
        assert (line["source"], line["class"]) == (entry["source"], entry["class"])
        for name, share in entry["probabilities"].items():
            assert float(line[name]) == pytest.approx(share, rel=1e-4)
    shown(capsys, str(finished_run), str(pictures), f"output={table.with_suffix('.json')}")
    assert json.loads(table.with_suffix(".json").read_text()) == entries


def test_a_broken_picture_is_told_and_the_others_are_answered(
    finished_run, pictures, capsys
) -> None:
    (pictures / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (pictures / "notes.txt").touch()
    out, err = shown(capsys, str(finished_run), str(pictures), code=1)
    assert len(out.splitlines()) == DIGITS - 1
    broken, left_out = err.splitlines()
    assert broken == f"fedlite: input={pictures / '2.png'}: not an image, or damaged"
    assert left_out == f"left out of {pictures}: files of other kinds: 1 .txt"
    out, err = shown(capsys, str(finished_run), str(pictures / "2.png"), code=1)
    assert (out, len(err.splitlines())) == ("", 1)


def test_ink_on_paper_is_hinted_at_and_inverted(finished_run, pictures, capsys) -> None:
    out, _ = shown(capsys, str(finished_run), str(pictures))
    for path in pictures.rglob("*.png"):
        Image.eval(Image.open(path), lambda value: 255 - value).save(path)
    _, err = shown(capsys, str(finished_run), str(pictures))
    assert "a negative of what the model knows; try invert=true" in err
    for typed in ("--invert", "invert=true"):
        assert shown(capsys, str(finished_run), str(pictures), typed) == (out, "")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("output=answers.xlsx", "unknown kind; give .csv or .json"),
        ("output={pictures}", "unknown kind"),
        ("json=maybe", "json=maybe: expected true or false"),
        ("--fast", "unknown flag '--fast'; flags: --json --invert"),
        ("top=3", "unknown option 'top=3'; options: model, input, output, json, invert"),
    ],
)
def test_what_is_typed_wrong_is_usage(finished_run, pictures, capsys, typed, words) -> None:
    given = typed.format(pictures=pictures)
    out, err = shown(capsys, str(finished_run), str(pictures), given, code=2)
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_an_input_is_not_written_over(finished_run, tmp_path, capsys) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(",".join(["0"] * 64) + "\n")
    _, err = shown(capsys, str(finished_run), str(table), f"output={table}", code=2)
    assert "is a folder or an input" in err


@pytest.mark.parametrize("name", ["input", "output", "model"])
def test_an_option_that_is_taken_away_is_one_line(name: str, tmp_path: Path, capsys) -> None:
    refusal(capsys, 2, "predict", str(tmp_path), f"~{name}", "x.png")
