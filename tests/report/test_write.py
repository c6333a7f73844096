"""The report on disk: it comes back as it was written, with its pictures."""

import html
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
    assert text.startswith("# fedlite: digits\n\n20 clients trained a student")
    assert "**The private data bought 6.1 points" in text
    for part in ("## Privacy", "Cost:", "48.1 MB", "42.2 s", "`federation.rounds`", "2.13.0"):
        assert part in text
    assert "partition.png" not in text


def test_a_reader_finds_date_command_and_verdict_before_any_table(
    tmp_path: Path, report: Report
) -> None:
    report["run"] |= {"written": "2026-11-26T19:40:00+00:00", "command": "fedlite simulate a=1"}
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    first = text[: text.index("| Model |")]
    for words in (
        "26 November 2026, 19:40 UTC.",
        "```\nfedlite simulate a=1\n```",
        "95% interval of the gain +3.2 to +7.7 points",
        "**How good:** the final model (student, quantized) is 85.5% accurate on 360 test examples"
        " (95% interval 81.5% to 88.8%).",
        "**How private:** epsilon 7.92 (budget 8) at delta 1e-05",
        "**How costly:** the final model takes 24.1 kB and answers in 0.038 ms",
    ):
        assert words in first
    assert "| Student, federated | 86.0% | 82.0 to 89.2% |" in text


def test_the_configuration_is_folded_and_shows_what_differs(tmp_path: Path, report: Report) -> None:
    report["changed"] = {"privacy.epsilon": 8.0, "teacher.checkpoint": None, "student.name": "a|b"}
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    folded = text[text.index("<summary>Configuration: what differs") :]
    assert "| `privacy.epsilon` | `8.0` |" in folded
    assert "| `teacher.checkpoint` | `null` |" in folded
    assert r"| `student.name` | `a\|b` |" in folded
    assert "federation.learning_rate" not in folded


def test_no_key_of_the_json_is_read_as_words(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    report = make_report(search=search_section())
    report["changed"] = {}
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    words = re.sub(r"`[^`]*`|\(pictures/.*?\)|compress\.min_snr_db", "", text)
    assert re.findall(r"\w+_\w+", words) == []


def test_the_page_holds_the_same_and_needs_nothing_else(tmp_path: Path, report: Report) -> None:
    paths = write_report(report, tmp_path, CLASS_COUNTS, CLASSES, CONFUSION)
    page = paths["report_html"].read_text()
    pictures = len(list(paths["pictures"].iterdir()))
    assert page.count('src="data:image/png;base64,') == page.count("<img") == pictures
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "@import" not in page
    for words in ("bought 6.1 points", "<summary>Privacy in numbers</summary>", "82.0 to 89.2%"):
        assert words in page


def test_names_are_text_and_no_markup(tmp_path: Path, report: Report) -> None:
    report["dataset"]["name"] = "<script>alert(1)</script> *a* | b_c_"
    paths = write_report(report, tmp_path, None, CLASSES, None)
    page = paths["report_html"].read_text()
    assert "<script>" not in page
    assert "<h1>fedlite: &lt;script&gt;alert(1)&lt;/script&gt; *a* | b_c_</h1>" in page
    assert "<script>" not in paths["report"].read_text()


FOREIGN = "a|b *c* _d_ <b>e</b> &amp; `f` $g$ #h\ni"


def test_foreign_words_stay_as_they_are_in_every_sentence(tmp_path: Path, report: Report) -> None:
    """Names of classes, reasons of refusals, runtimes: whatever is in them is text."""
    share = {"share": 0.97, "missed": 0.95}
    majority = {"student": "federated_student", "class_name": FOREIGN, **share}
    report["judgement"]["majority"] = majority
    report["artefacts"][-2]["refused"] = FOREIGN
    report["federation"] |= {"stopped": FOREIGN, "refusals": {FOREIGN: 1}}
    report["models"]["quantized_student"]["runtime"] = FOREIGN
    report["privacy"]["protects"] = FOREIGN
    report["changed"] = {"student.name": FOREIGN, "teacher.name": "", "distill.loss": "`"}
    report["search"] = search_section() | {"text": FOREIGN, "chosen": {"norms": FOREIGN}}
    paths = write_report(report, tmp_path, None, CLASSES, None)
    whole = paths["report_html"].read_text()
    page = html.unescape(re.sub(r"<[^>]*>", "", whole))
    line = " ".join(FOREIGN.split())
    assert "<em>c</em>" not in whole
    assert page.count("a|b") == page.count(line) >= 9


def test_by_macro_f1_the_report_is_led_by_it(tmp_path: Path, report: Report) -> None:
    report["config"]["dataset"]["metric"] = "macro_f1"
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    assert "(student, quantized) has a macro-F1 of 0.845 on 360 test examples; it is 85.5%" in text
    assert "![Macro-F1 by round]" in text
    assert "| Artefact | Format | Precision | Accuracy | Macro-F1 |" in text


def test_markdown_shows_artefacts_and_what_compression_did(tmp_path: Path, report: Report) -> None:
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    section = text[text.index("<summary>Every file") : text.index("<summary>Privacy")]
    assert "| **Student, quantized** | LiteRT | int8 |" in section
    assert "- Student, quantized, ExecuTorch (int8): SNR 11.0 dB" in section
    assert r"| Norms folded into their neighbours | blocks.0.norm, blocks.1.norm |" in text
    assert "| Accuracy on them | student, federated 87.1%; student, pruned 86.9% |" in text
    assert "| Ships | ONNX: quantized (int8); LiteRT: quantized (int8) |" in text
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
    written = {"report.json", "report.md", "report.html", "artefacts.csv", "pictures"}
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
