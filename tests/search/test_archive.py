"""What a search leaves: a table of trials, rows in TensorBoard, pictures, a section."""

import csv
import dataclasses
import json
from io import StringIO
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from fedlite.report.searches import search_markdown
from fedlite.search.archive import log_trial, trials_csv, verdict, write_search
from fedlite.search.harness import Budget, run_trials
from fedlite.search.result import SearchResult, cheapest, conclude
from fedlite.search.trial_charts import search_history, search_trials
from fedlite.search.trials import Limits, Outcome, Trial

from .toy import LIMITS, SPACE, evaluate


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "search"


@pytest.fixture(scope="module")
def result(directory: Path) -> SearchResult:
    log = log_trial("compression", LIMITS, directory, None)
    trials = run_trials(SPACE, evaluate, LIMITS, Budget(25, 8), directory, "toy", 0, log)
    return concluded(trials, LIMITS)


def concluded(trials: list[Trial], limits: Limits) -> SearchResult:
    return conclude(
        "compression",
        trials,
        limits,
        "bytes",
        lambda some: cheapest(some, limits, "bytes"),
    )


def texts(figure: Figure) -> str:
    return "\n".join(one.get_text() for one in figure.findobj(lambda one: hasattr(one, "get_text")))


def test_the_section_is_plain_json_and_says_what_was_found(
    result: SearchResult, directory: Path
) -> None:
    section = write_search(result, directory, directory.parent)
    assert json.loads(json.dumps(section)) == section
    assert section["kind"] == "compression"
    assert section["trials"] == 25
    assert section["reached"]
    assert section["chosen"] == result.chosen.options
    assert section["best"]["bytes"] == result.best.bytes
    assert section["default"]["bytes"] == 21_000
    assert section["target"] == {"latency_ms": None, "bytes": 25_000, "max_accuracy_drop": 0.05}
    assert section["trials_file"] == "search/trials.csv"
    assert (directory.parent / section["trials_file"]).is_file()
    for name in section["pictures"]:
        with Image.open(directory.parent / "pictures" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_table_has_a_row_for_every_trial(result: SearchResult) -> None:
    rows = list(csv.DictReader(StringIO(trials_csv(result))))
    assert [int(row["trial"]) for row in rows] == list(range(25))
    assert [row["chosen"] for row in rows].count("True") == 1
    assert {row["verdict"] for row in rows} == {verdict(one, LIMITS) for one in result.trials}
    for row, trial in zip(rows, result.trials, strict=True):
        assert row["reason"] == trial.reason
        if trial.outcome is not None:
            assert float(row["accuracy"]) == trial.outcome.accuracy


def test_every_trial_is_a_row_of_the_hparams_tab(result: SearchResult, directory: Path) -> None:
    names = set()
    for trial in result.trials:
        events = EventAccumulator(str(directory / "trials" / f"{trial.number:03d}"))
        events.Reload()
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(content)
        names.add(start.group_name)
        assert start.hparams["quantization"].string_value == trial.options["quantization"]
        assert start.hparams["ratio"].number_value == trial.options["ratio"]
        assert start.hparams["verdict"].string_value == verdict(trial, LIMITS)
        assert "_hparams_/session_end_info" in events.summary_metadata
        if trial.outcome is not None:
            (found,) = events.Scalars("10_compression_search/bytes")
            assert found.value == trial.outcome.bytes
    assert len(names) == 25


def test_the_scatter_shows_chosen_front_limit_and_counts(result: SearchResult) -> None:
    figure = search_trials(result)
    left, right = figure.axes
    _, labels = left.get_legend_handles_labels()
    assert {"within the limits", "over the limits", "Pareto front", "chosen"} < set(labels)
    assert "limit" in right.get_legend_handles_labels()[1]
    star = next(line for line in right.lines if line.get_label() == "chosen")
    assert star.get_xydata().tolist() == [[result.best.bytes, result.best.accuracy]]
    assert f"25 trials, {len(result.feasible)} within the limits" in texts(figure)


def test_a_search_by_macro_f1_says_so(result: SearchResult, tmp_path: Path) -> None:
    by_score = dataclasses.replace(result, metric="macro_f1")
    section = write_search(by_score, tmp_path / "search", tmp_path)
    assert section["metric"] == "macro_f1"
    shown = texts(search_trials(by_score)) + search_markdown(section)
    assert "macro-F1 on public validation data" in shown
    assert "| Macro-F1 (public data) |" in shown
    assert "ccuracy" not in shown


def test_the_history_follows_the_best_choice(result: SearchResult) -> None:
    axes = search_history(result).axes[0]
    course = next(line for line in axes.lines if line.get_label() == "best so far")
    assert course.get_ydata()[-1] == result.best.bytes
    assert len(course.get_ydata()) == 25


@pytest.mark.parametrize(
    "outcomes",
    [
        [Outcome(0.1, 1000, 0.9)],
        [Outcome(0.1, 1000, None)],
        [Outcome(0.1, 1000, 0.9), None, Outcome(0.3, 900, 0.2), Outcome(0.2, 10**7, None)],
    ],
)
def test_pictures_of_few_trials(outcomes: list[Outcome | None]) -> None:
    trials = [
        Trial(number, {}, {}, outcome, 1.0, "" if outcome else "failed")
        for number, outcome in enumerate(outcomes)
    ]
    result = concluded(trials, Limits(bytes=2000))
    for figure in (search_trials(result), search_history(result)):
        figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert all(tick == round(tick) for tick in axes.get_xticks() if low <= tick <= high)
