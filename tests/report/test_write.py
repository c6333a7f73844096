"""The report on disk: it comes back as it was written, with its pictures."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlite.base.errors import UsageError
from fedlite.report.write import load_report, round_entry, write_report
from tests.report.runs import CLASS_COUNTS, CLASSES, CONFUSION, Report, round_record, search_section


def test_round_trip(tmp_path: Path, report: Report) -> None:
    paths = write_report(report, tmp_path, CLASS_COUNTS, CLASSES, CONFUSION)
    loaded = load_report(paths["report_json"])
    assert loaded == {"schema_version": 1, **report}
    assert list(loaded)[:5] == ["schema_version", "run", "dataset", "models", "privacy"]


def test_every_picture_is_drawn_and_shown(tmp_path: Path, report: Report) -> None:
    paths = write_report(report, tmp_path, CLASS_COUNTS, CLASSES, CONFUSION)
    files = {file.name for file in paths["pictures"].iterdir()}
    assert files == {
        "accuracy_by_round.png",
        "epsilon_by_round.png",
        "accuracy_against_latency.png",
        "accuracy_against_bytes.png",
        "confusion_matrix.png",
        "partition.png",
    }
    linked = set(re.findall(r"\(pictures/(.+?)\)", paths["report"].read_text()))
    assert linked == files
    for file in paths["pictures"].iterdir():
        with Image.open(file) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_markdown_has_result_privacy_cost_and_configuration(tmp_path: Path, report: Report) -> None:
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    assert text.startswith("# fedlite: digits\n\nOn **digits**, 20 clients and 20 rounds")
    assert "bought 6.1 points" in text
    for part in ("## Privacy", "## Cost", "48.1 MB", "42.2 s", "`federation.rounds`", "2.13.0"):
        assert part in text
    assert "partition.png" not in text


def test_markdown_shows_artefacts_and_what_compression_did(tmp_path: Path, report: Report) -> None:
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    section = text[text.index("## Artefacts") : text.index("## Privacy")]
    assert "| **Student, quantized** | LiteRT | int8 |" in section
    assert "pictures/accuracy_against_latency.png" in section
    assert "| Folded norms | blocks.0.norm, blocks.1.norm |" in text
    assert "| Public accuracy | federated student 0.871, pruned student 0.869 |" in text
    assert "| Shipped | onnx quantized_student.onnx, litert quantized_student.litert |" in text
    assert "## Search" not in text


def test_a_search_is_shown_with_its_picture(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    report = make_report(search=search_section())
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    section = text[text.index("## Search") : text.index("## Privacy")]
    assert "| Found | 85.9% | 0.031 | 18.2 kB |" in section
    assert "(pictures/search_trials.png)" in section
    assert load_report(tmp_path / "report.json")["search"] == search_section()


def test_not_private_is_at_the_top(tmp_path: Path, make_report: Callable[..., Report]) -> None:
    report = make_report(private=False)
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    assert text.splitlines()[2] == "![NOT PRIVATE](pictures/not_private.png)"
    with Image.open(tmp_path / "pictures" / "not_private.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)
    assert red.sum() > 1000


def test_an_unfinished_run_has_a_report_too(tmp_path: Path, report: Report) -> None:
    for key in list(report["models"])[2:]:
        del report["models"][key]
    del report["artefacts"], report["search"], report["compression"]
    report["history"] = []
    paths = write_report(report, tmp_path, None, CLASSES, None)
    assert "Student, public only" in paths["report"].read_text()


def test_numbers_of_libraries_and_nan_become_plain_json(tmp_path: Path, report: Report) -> None:
    report["models"]["teacher"]["accuracy"] = np.float64(0.5)
    report["run"]["dir"] = Path("outputs")
    report["history"][0]["evaluation"]["loss"] = math.nan
    path = write_report(report, tmp_path, None, CLASSES, None)["report_json"]
    loaded = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert loaded["models"]["teacher"]["accuracy"] == 0.5
    assert loaded["run"]["dir"] == "outputs"
    assert loaded["history"][0]["evaluation"]["loss"] is None


def test_nothing_partial_is_left_behind(tmp_path: Path, report: Report) -> None:
    write_report(report, tmp_path, CLASS_COUNTS, CLASSES, CONFUSION)
    written = {"report.json", "report.md", "artefacts.csv", "pictures"}
    assert {file.name for file in tmp_path.iterdir()} == written


def test_history_leaves_out_the_confusion_matrix() -> None:
    entry = round_entry(round_record(3))
    assert entry["round"] == 3
    assert set(entry["evaluation"]) == {"accuracy", "macro_f1", "loss"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such report"),
        ("{", "not a readable report"),
        ("[]", "schema_version is None"),
        ('{"schema_version": 2}', "schema_version is 2, must be 1"),
    ],
)
def test_a_file_that_is_no_report(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_report(path)
