"""Constants that private data filled in are said; shipped experiments give every one of them."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.cli.main import run
from fedlite.report.privacy_statement import privacy_statement
from fedlite.report.progress import Progress
from fedlite.runs.compose import compose_config
from fedlite.runs.conf import conf_dir
from fedlite.runs.config import Config
from fedlite.runs.derived import (
    derived_constants,
    derived_line,
    far_off_line,
    few_line,
    uneven_line,
)
from fedlite.runs.forecast import forecast
from fedlite.runs.splits import splits_of
from fedlite.runs.stages import plan
from tests.e2e.command import refusal
from tests.privacy.world import Untrained
from tests.report.runs import finished_report

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
GIVEN = ("privacy.expected_examples=60", "dataset.public_size=150")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_leaves_no_constant_to_private_data(name: str) -> None:
    assert derived_constants(compose_config([f"experiment={name}"])) == {}


@pytest.mark.parametrize(
    ("name", "left_open"),
    [
        ("fashion_mnist", "privacy.expected_examples=null"),
        ("har", "privacy.expected_examples=null"),
        ("mnist_writers_client", "federation.num_clients=null"),
    ],
)
def test_what_an_experiment_gives_is_what_was_worked_out(
    name: str, left_open: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLITE_DATA", str(data_dir))
    config = compose_config([f"experiment={name}"])
    sizes = splits_of(compose_config([f"experiment={name}", left_open])).client_sizes()
    if config.federation.num_clients is not None:
        assert len(sizes) == config.federation.num_clients
    if config.privacy.expected_examples is not None:
        assert sum(sizes) // len(sizes) == config.privacy.expected_examples


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {"privacy.expected_examples", "dataset.public_size"}),
        (GIVEN, set()),
        ((*GIVEN, "dataset.class_names=null"), {"dataset.class_names"}),
        ((*GIVEN, "privacy=client", "partition=natural"), {"federation.num_clients"}),
        ((*GIVEN, "privacy=aggregate", "partition=natural"), {"federation.num_clients"}),
        ((*GIVEN, "federation.fraction=0.5", "partition=natural"), {"federation.num_clients"}),
        (("privacy=client",), {"dataset.public_size"}),
        (("privacy=none",), set()),
    ],
)
def test_what_is_left_open_is_named(options: tuple[str, ...], found: set[str]) -> None:
    assert set(derived_constants(compose_config(options))) == found


@pytest.mark.parametrize(("options", "warnings"), [((), 1), (GIVEN, 0)])
def test_the_log_warns_once_and_in_one_line(
    options: tuple[str, ...],
    warnings: int,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config("privacy.accountant=rdp", *options)
    with caplog.at_level(logging.WARNING):
        plan.run(Untrained(config, tmp_path))
    lines = [one for one in caplog.messages if "worked out from private data" in one]
    assert len(lines) == warnings
    assert "\n" not in "".join(lines)


@pytest.mark.parametrize(
    ("options", "drowned"),
    [
        (("privacy=client", "privacy.client.clip=1"), True),
        (("privacy=client",), False),
        (("federation.learning_rate=100",), True),
        ((), False),
    ],
)
def test_noise_that_will_drown_the_student_is_said_before_it_trains(
    options: tuple[str, ...],
    drowned: bool,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config("privacy.accountant=rdp", "privacy.client.accountant=rdp", *options)
    pipeline = Untrained(config, tmp_path)
    pipeline.progress = Progress()
    plan.run(pipeline)
    assert ("warning: noise alone is expected to carry" in capsys.readouterr().err) is drowned


@pytest.mark.slow
def test_a_clip_that_was_derived_is_that_of_the_run(
    shared_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = shared_run("client", "privacy=client", "federation.num_clients=10", "student=mlp")
    folder = shutil.copytree(finished, tmp_path / "run")
    (unit,) = json.loads((folder / "report.json").read_text())["privacy"]["units"]
    assert 0 < unit["clip"] < 1
    line = refusal(capsys, 2, "report", f"run.dir={folder}", "privacy.client.clip=1")
    assert f"clip=1: this run was planned with {unit['clip']:g}" in line
    assert run(["report", f"run.dir={folder}"]) == 0


def test_the_statement_counts_them_among_what_is_not_covered() -> None:
    privacy = finished_report()["privacy"]
    assert "worked out from its private data" not in privacy_statement(privacy)
    privacy["derived_constants"] = derived_constants(compose_config([]))
    text = privacy_statement(privacy)
    missing = text[text.index("### Not covered") :]
    assert "`privacy.expected_examples`: the average number of examples" in missing
    assert derived_line(privacy["derived_constants"]).count("(") == 2


@pytest.mark.parametrize(
    ("given", "far_off"), [("100", False), ("149", False), ("151", True), ("66", True)]
)
def test_a_constant_of_another_division_is_warned_of(given: str, far_off: bool) -> None:
    config = compose_config([f"privacy.expected_examples={given}"])
    assert bool(far_off_line(config, [50, 150])) is far_off
    assert far_off_line(compose_config(["privacy=client"]), [1]) == ""


@pytest.mark.parametrize(
    ("sizes", "options", "uneven"),
    [
        ([1, 20, 30, 40, 2000], (), True),
        ([100] * 8 + [10] * 2, (), True),
        ([100] * 19 + [10], (), False),
        ([60, 100, 140], (), False),
        ([60, 100, 140], ("privacy.expected_examples=10",), True),
        ([1, 2000], ("privacy=client",), False),
    ],
)
def test_clients_for_whom_one_nominal_size_misleads_are_warned_of(
    sizes: list[int], options: tuple[str, ...], uneven: bool
) -> None:
    line = uneven_line(compose_config(options), sizes)
    assert bool(line) is uneven
    if len(sizes) == 5:
        assert "hold 1 to 2,000 examples (median 30), and one nominal size, 418," in line
        assert "4 of 5 hold less than a fifth of it and add little but noise" in line
        assert "the largest weighs 4.8 times as much" in line


def test_a_plan_counts_the_clients_of_an_uneven_partition() -> None:
    uneven = ["dataset=digits", "partition=size", "partition.skew=exponential"]
    uneven += ["federation.num_clients=6"]
    assert "stands for all" in forecast(compose_config(uneven)).remarks[0]
    given = [*uneven, "privacy.expected_examples=70"]
    assert forecast(compose_config(given)).remarks == ()
    assert forecast(compose_config(["dataset=digits"])).remarks == ()


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (7, (), "holds 3.5 examples on average (privacy.sample_rate=0.5 of 7), and its noise"),
        (20, ("privacy.sample_rate=0.1",), "holds 2 examples on average (privacy.sample_rate=0.1"),
        (20, ("privacy.sample_rate=0.1",), "of 20), 12% of the batches none, and"),
        (3, ("privacy.sample_rate=1",), "holds 3 examples on average"),
        (100, ("privacy.expected_examples=6",), "sample_rate=0.5 of 6)"),
        (8, (), ""),
        (2, ("privacy=aggregate",), ""),
        (2, ("privacy=client",), ""),
    ],
)
def test_batches_of_few_examples_are_warned_of(
    size: int, options: tuple[str, ...], words: str
) -> None:
    line = few_line(compose_config(options), [size] * 5)
    assert words in line
    assert bool(words) is bool(line)


def test_a_plan_says_from_how_many_examples_on_batches_are_no_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = ["plan", "privacy.accountant=rdp", "privacy.sample_rate=0.05", "federation.rounds=2"]
    assert run(plain) == 0
    assert "a batch holds 4 or more of clients of 80 or more." in _in_one_line(capsys)
    assert run([*plain, "privacy.expected_examples=20"]) == 0
    assert "Beware: a client's batch holds 1 example on average" in _in_one_line(capsys)


def _in_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())
