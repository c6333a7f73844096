"""TensorBoard: what a run writes is read back from real event files."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from fedlite.base.records import Evaluation
from fedlite.report.drawing import save_figure
from fedlite.report.pareto import accuracy_against_bytes
from fedlite.report.tensorboard import RunBoard
from tests.report.runs import (
    BUDGET,
    CLASS_COUNTS,
    CLASSES,
    CONFUSION,
    Report,
    finished_report,
    round_record,
    search_section,
    simulated,
)


def log_rounds(board: RunBoard, first: int, last: int, private: bool = True) -> None:
    """Baselines and rounds as the pipeline logs them."""
    board.log_baseline("teacher", Evaluation(0.93, 0.92, 0.2))
    board.log_baseline("public_student", Evaluation(0.80, 0.79, 0.7))
    noise, budget = (1.31, BUDGET) if private else (None, None)
    for number in range(first, last + 1):
        record = round_record(number, private=private)
        board.log_round(record, noise_multiplier=noise, budget=budget)


def log_run(log_dir: Path, report: Report) -> EventAccumulator:
    """A whole run of 20 rounds, read back."""
    with RunBoard(log_dir) as board:
        board.log_partition(CLASS_COUNTS, CLASSES)
        board.log_plan(report["privacy"])
        log_rounds(board, 1, 20, report["privacy"]["private"])
        board.log_final(report, CLASSES, CONFUSION)
    return read(log_dir)


def read(log_dir: Path) -> EventAccumulator:
    """Everything that the event files hold."""
    return EventAccumulator(
        str(log_dir), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}
    ).Reload()


def text(events: EventAccumulator, tag: str) -> str:
    """The text that was logged under a tag."""
    value: bytes = events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0]
    return value.decode()


def values(events: EventAccumulator, tag: str) -> dict[int, float]:
    """Step -> value of a scalar."""
    points = [(event.step, event.value) for event in events.Scalars(tag)]
    assert len(points) == len(dict(points)), f"{tag} holds a step twice"
    return dict(points)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> EventAccumulator:
    """The event files of a whole private run."""
    return log_run(tmp_path_factory.mktemp("run"), finished_report())


def test_scalars_answer_the_three_questions(events: EventAccumulator) -> None:
    steps = list(range(1, 21))
    accuracy = values(events, "1_how_good/accuracy")
    assert list(accuracy) == steps
    assert accuracy[20] == pytest.approx(0.86)
    assert values(events, "1_how_good/points_over_public_student")[20] == pytest.approx(
        6.0, abs=1e-4
    )
    spent = round_record(20).epsilons
    assert values(events, "2_how_private/epsilon_max")[20] == pytest.approx(max(spent))
    assert values(events, "2_how_private/epsilon_mean")[20] == pytest.approx(sum(spent) / 20)
    assert set(values(events, "2_how_private/budget").values()) == {BUDGET}
    assert set(values(events, "3_how_costly/bytes_down").values()) == {2_400_000}
    assert values(events, "3_how_costly/bytes_teacher") == {1: 100_000} | dict.fromkeys(
        steps[1:], 0
    )
    assert values(events, "3_how_costly/seconds_train")[1] == pytest.approx(0.81)
    assert values(events, "4_clients/refused")[20] == 1
    assert set(values(events, "5_baselines/accuracy_of_teacher")) == set(steps)
    assert len(events.Histograms("2_how_private/epsilon_clients")) == 20


def test_memory_is_there_once(events: EventAccumulator) -> None:
    tags = {"process": 913.4e6, "fork_server": 387.6e6, "worker": 52.3e6}
    for name, taken in tags.items():
        found = values(events, f"3_how_costly/peak_memory_bytes_{name}")
        assert found == {20: pytest.approx(taken)}


def test_layout_opens_on_good_private_costly_and_names_real_tags(events: EventAccumulator) -> None:
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tensor.string_val[0])
    titles = [category.title for category in layout.category]
    assert [title[4:] for title in titles] == ["How good", "How private", "How costly"]
    scalars = events.Tags()["scalars"]
    charts = [chart for one in layout.category for chart in one.chart]
    patterns = [tag for chart in charts for tag in chart.multiline.tag]
    assert all(any(re.match(pattern, tag) for tag in scalars) for pattern in patterns)
    bands = [series for chart in charts for series in chart.margin.series]
    assert any(band.lower != band.upper for band in bands)
    for band in bands:  # TensorBoard refuses to draw tags of different steps
        steps = [list(values(events, tag)) for tag in (band.value, band.lower, band.upper)]
        assert steps[0] == steps[1] == steps[2]


def test_what_ships_is_on_the_first_page(events: EventAccumulator) -> None:
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tensor.string_val[0])
    costly = {one.title: one for one in layout.category}["3 · How costly"]
    tags = [tag for chart in costly.chart for tag in chart.multiline.tag]
    for name, value in (("bytes", 24_100), ("latency_ms_p50", 0.038)):
        assert f"10_result/{name}$" in tags
        assert values(events, f"10_result/{name}") == {20: pytest.approx(value)}


def test_a_fleet_s_rounds_go_by_simulated_wall_clock(tmp_path: Path) -> None:
    with RunBoard(tmp_path / "run", fleet=True) as board:
        for number in (1, 2, 3):
            record = replace(round_record(number), simulated=simulated(number))
            board.log_round(record, noise_multiplier=None, budget=None)
    events = read(tmp_path / "run")
    assert values(events, "3_how_costly/simulated_clock_seconds") == {1: 60, 2: 120, 3: 180}
    assert set(values(events, "4_clients/simulated_away").values()) == {3}
    timed = events.Scalars("1_how_good/accuracy_by_simulated_time")
    assert [event.wall_time for event in timed] == [60, 120, 180]
    layout = layout_pb2.Layout()
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout.ParseFromString(tensor.string_val[0])
    charts = {one.title: one for one in layout.category}["3b · How long on the fleet"].chart
    tags = [tag for chart in charts for tag in chart.multiline.tag]
    for tag in tags:
        assert any(re.search(tag, one) for one in events.Tags()["scalars"]), tag


def test_final_texts_and_pictures(events: EventAccumulator) -> None:
    assert "Student, quantized" in text(events, "1_how_good/comparison")
    assert "bought 6.1 points" in text(events, "1_how_good/comparison")
    assert "Whom it does not protect" in text(events, "2_how_private/statement")
    assert "Noise multiplier" in text(events, "2_how_private/plan")
    assert "NOT PRIVATE" not in text(events, "1_how_good/comparison")
    assert set(events.Tags()["images"]) == {
        "6_pictures/partition_simulation_only",
        "6_pictures/confusion_matrix",
        "6_pictures/accuracy_against_bytes",
        "6_pictures/accuracy_against_latency",
    }


def test_each_artefact_has_three_numbers_and_all_have_one_table(events: EventAccumulator) -> None:
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("8_artefacts")]
    assert len(tags) == 3 * 12  # Core ML's was not measured
    size = values(events, "8_artefacts/bytes/quantized_student.litert")
    assert size == {0: pytest.approx(22_300)}
    assert values(events, "8_artefacts/latency_ms_p50/teacher.torch") == {0: pytest.approx(2.4)}
    assert "SNR 11.0 dB" in text(events, "8_artefacts/table")
    assert "9_search/compression/text_summary" not in events.Tags()["tensors"]


def test_a_search_is_told(tmp_path: Path, make_report: Callable[..., Report]) -> None:
    search = search_section()
    (name,) = search["pictures"]
    save_figure(accuracy_against_bytes(make_report()), tmp_path / f"{name}.png")
    with RunBoard(tmp_path / "run") as board:
        board.log_search(search, tmp_path)
    events = read(tmp_path / "run")
    assert "criterion=taylor" in text(events, f"9_search/{search['kind']}")
    assert f"9_search/{name}" in events.Tags()["images"]


def test_plan_is_shown_before_anything_is_spent(tmp_path: Path, report: Report) -> None:
    unit = {k: v for k, v in report["privacy"]["units"][0].items() if "epsilon" not in k}
    with RunBoard(tmp_path) as board:
        board.log_plan(report["privacy"] | {"units": [unit]})
        shown = text(read(tmp_path), "2_how_private/plan")
    assert "Budget (epsilon) | 8" in shown
    assert "spent" not in shown


@pytest.mark.parametrize("options", [{"private": False}, {"randomness": "deterministic"}])
def test_not_private_is_shouted(
    tmp_path: Path, make_report: Callable[..., Report], options: dict[str, Any]
) -> None:
    events = log_run(tmp_path, make_report(**options))
    assert "0_NOT_PRIVATE/warning" in events.Tags()["images"]
    for tag in ("1_how_good/comparison", "2_how_private/plan", "2_how_private/statement"):
        assert "NOT PRIVATE" in text(events, tag)


def test_without_privacy_no_epsilon_is_logged(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    scalars = log_run(tmp_path, make_report(private=False)).Tags()["scalars"]
    assert not [tag for tag in scalars if "epsilon" in tag or tag.startswith("2_how_private")]


def test_a_round_without_evaluation_writes_the_rest(tmp_path: Path) -> None:
    record = round_record(1)
    object.__setattr__(record, "evaluation", None)
    with RunBoard(tmp_path) as board:
        board.log_round(record, noise_multiplier=1.0, budget=8.0)
    scalars = read(tmp_path).Tags()["scalars"]
    assert "2_how_private/epsilon_max" in scalars
    assert "1_how_good/accuracy" not in scalars


def test_resume_hides_what_the_broken_off_process_wrote(tmp_path: Path) -> None:
    with RunBoard(tmp_path) as board:
        log_rounds(board, 1, 14)
    with RunBoard(tmp_path, purge_step=12) as board:
        log_rounds(board, 12, 20)
    events = read(tmp_path)
    assert list(values(events, "1_how_good/accuracy")) == list(range(1, 21))
    assert sorted(values(events, "5_baselines/accuracy_of_teacher")) == list(range(1, 21))


def test_a_job_of_a_sweep_shows_what_is_swept_alone(tmp_path: Path, report: Report) -> None:
    swept = {"privacy.epsilon": "8", "student": "cnn", "compress.search.enabled": "true"}
    with RunBoard(tmp_path, swept=swept) as board:
        board.log_final(report, CLASSES)
    tensor = read(tmp_path).Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tensor.string_val[0])
    drawn = {chart.title: chart.margin.series for one in layout.category for chart in one.chart}
    bands = [band for series in drawn.values() for band in series]
    assert all(band.lower == band.value == band.upper for band in bands), "they would overlap"
    assert "accuracy" in drawn
    (tag,) = (
        EventMultiplexer()
        .AddRunsFromDirectory(str(tmp_path))
        .Reload()
        .PluginRunToTagToContent(metadata.PLUGIN_NAME)
        .values()
    )
    start = metadata.parse_session_start_info_plugin_data(tag[metadata.SESSION_START_INFO_TAG])
    assert set(start.hparams) == set(swept)
    assert start.hparams["privacy.epsilon"].number_value == 8
    assert start.hparams["student"].string_value == "cnn"
    assert start.hparams["compress.search.enabled"].bool_value


def test_each_run_is_one_hparams_row_with_metrics(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    runs = {"eps8": make_report(run_id="eps8"), "eps2": make_report(run_id="eps2", epsilon=2.0)}
    for name, one in runs.items():
        log_run(tmp_path / name / "tensorboard", one)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    content = multiplexer.PluginRunToTagToContent(metadata.PLUGIN_NAME)
    assert set(content) == {"eps8/tensorboard", "eps2/tensorboard"}
    for run, tags in content.items():
        start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        name = run.split("/")[0]
        assert start.group_name == name
        assert (
            start.hparams["privacy.epsilon"].number_value
            == runs[name]["config"]["privacy"]["epsilon"]
        )
        assert dict(start.hparams).keys() == runs[name]["changed"].keys()
        assert start.hparams["student.kwargs"].string_value == '{"channels": [8, 8]}'
        assert metadata.SESSION_END_INFO_TAG in tags
        scalars = EventAccumulator(str(tmp_path / run)).Reload().Tags()["scalars"]
        first = sorted(scalars)[:5]
        assert [tag.split("/")[0] for tag in first] == ["10_result"] * 5
        assert "10_result/epsilon_max" in first
