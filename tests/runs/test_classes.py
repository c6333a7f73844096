"""A run of several classes of students: each a federation of its own clients, joined in public."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fedlite
from fedlite.base.tensors import load_tensors, state_sha256
from fedlite.cli.main import run
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.joins import load_joins
from fedlite.privacy.ledger_folder import read_ledgers
from fedlite.runs import lock_step
from fedlite.runs.class_jobs import class_jobs
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.federate import Rounds, Watcher, client_options
from tests.conftest import TINY

CLASSES = (
    "+federation.classes.tiny={student: mlp, kwargs: {hidden: [8]}, max_bytes: 9000}",
    "+federation.classes.small={student: cnn, share: 2}",
    "federation.num_clients=6",
    "federation.join.every=2",
    "federation.join.steps=5",
)
NAMES = ("tiny", "small")


@pytest.fixture(scope="session")
def classes_run(shared_run: Callable[..., Path]) -> Path:
    """A private run of two classes, each alone beside it."""
    return shared_run("classes", *CLASSES, "federation.compare=true")


def configs(*overrides: str) -> dict[str, Config]:
    given = [*TINY, *CLASSES, *overrides]
    return {
        name: job.config for name, job in class_jobs(compose_config(given), given, Path()).items()
    }


# --- what it is made of ---------------------------------------------------------------------


def test_every_class_is_a_run_with_a_student_and_clients_of_its_own() -> None:
    found = configs("student.kwargs.channels=[4,4]")
    assert [one.student.name for one in found.values()] == ["mlp", "cnn"]
    assert found["tiny"].student.kwargs["hidden"] == [8]
    assert found["small"].student.kwargs["channels"] != [4, 4]  # a student given for the class wins
    whole = splits_of(compose_config([*TINY, *CLASSES]))
    splits = {name: splits_of(config) for name, config in found.items()}
    numbers = [number for one in splits.values() for number in one.all_numbers]
    assert sorted(numbers) == list(range(6))
    for one in splits.values():
        for client, number in enumerate(one.all_numbers):
            assert one.client_sha256(client) == whole.client_sha256(number)
        assert one.public.inputs.equal(whole.public.inputs)


def test_a_class_without_a_student_has_that_of_the_run() -> None:
    classes = ("+federation.classes.a={}", "+federation.classes.b={kwargs: {hidden: 9}}")
    given = [*classes, "student.kwargs.channels=[4,4]"]
    found = class_jobs(compose_config(given), given, Path())
    kwargs = [job.config.student.kwargs for job in found.values()]
    assert [one["channels"] for one in kwargs] == [[4, 4], [4, 4]]
    assert kwargs[1]["hidden"] == 9


def test_clients_of_a_class_are_told_its_name_and_nothing_of_the_other_classes() -> None:
    one, other = (configs(f"federation.classes.small.share={share}")["tiny"] for share in (2, 1))
    task = splits_of(one).task
    sent = client_options(one, task)
    assert sent == client_options(other, task)
    assert sent.class_name == "tiny"
    assert "small" not in sent.to_json()


# --- what it does ---------------------------------------------------------------------------


def test_every_client_is_charged_in_its_own_class_alone(classes_run: Path) -> None:
    """Rule 1: a ledger for each client, under the id that the data have in any division."""
    members = json.loads((classes_run / "state.json").read_text())["stages"]["classes"]["members"]
    charged: list[str] = []
    for name in NAMES:
        directory = classes_run / "classes" / name
        state = json.loads((directory / "state.json").read_text())
        ledgers = read_ledgers(directory / "ledgers")
        assert sorted(ledgers) == [f"digits-client-{number:04d}" for number in members[name]]
        for charges in ledgers.values():
            assert {one.run for one in charges} == {state["run_id"]}
            assert [one.round for one in charges] == [1, 2, 3]
        charged += ledgers
    assert len(charged) == len(set(charged)) == 6


def test_the_report_has_a_row_for_each_class_and_says_what_all_of_it_cost(
    classes_run: Path,
) -> None:
    rows = {row["class"]: row for row in csv.DictReader((classes_run / "classes.csv").open())}
    assert {name: int(row["clients"]) for name, row in rows.items()} == {"tiny": 2, "small": 4}
    found = fedlite.load_run(classes_run)
    for name, one in found.classes.items():
        (unit,) = one.report["privacy"]["units"]
        assert float(rows[name]["epsilon_example_level"]) == unit["epsilon_max"] <= 8
        federated = one.report["models"]["federated_student"]["accuracy"]
        assert float(rows[name]["federated_accuracy"]) == federated
        assert 0 <= float(rows[name]["alone_accuracy"]) <= 1
        shipped = classes_run / "classes" / name / "deploy" / "student.onnx"
        assert int(rows[name]["ships_bytes"]) == shipped.stat().st_size
    text = (classes_run / "report.md").read_text()
    assert "the epsilon of all classes is the largest" in text
    assert "cost no epsilon" in text
    assert "on ledgers of its own" in text
    assert (classes_run / "report.html").is_file()


def test_joins_are_after_every_so_many_rounds_and_the_last(classes_run: Path) -> None:
    joins = load_joins(classes_run / "joins.pt")
    assert [(one.round, one.class_name) for one in joins.history] == [
        (number, name) for number in (2, 3) for name in NAMES
    ]
    for name in NAMES:
        directory = classes_run / "classes" / name
        last = [one for one in joins.history if one.class_name == name][-1]
        ships = load_tensors(directory / "federated_student.pt")
        own = load_checkpoint(directory / "checkpoint.pt").average
        went_on = joins.students[name].state if last.taken else own
        assert state_sha256(ships) == state_sha256(went_on)


def test_each_class_alone_joins_nobody_and_has_ledgers_of_its_own(classes_run: Path) -> None:
    for name in NAMES:
        alone, joined = (classes_run / folder / name for folder in ("alone", "classes"))
        ids = [json.loads((one / "state.json").read_text())["run_id"] for one in (alone, joined)]
        assert ids[0] != ids[1]
        for charges in read_ledgers(alone / "ledgers").values():
            assert {one.run for one in charges} == {ids[0]}
        average = load_checkpoint(alone / "checkpoint.pt").average
        assert state_sha256(load_tensors(alone / "federated_student.pt")) == state_sha256(average)


# --- broken off -----------------------------------------------------------------------------

DETERMINISTIC = (*TINY, *CLASSES, "privacy.randomness=deterministic")


def students(directory: Path) -> dict[str, str]:
    return {
        name: state_sha256(load_tensors(directory / "classes" / name / "federated_student.pt"))
        for name in NAMES
    }


def test_broken_off_anywhere_it_ends_with_the_bits_of_an_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a round, between two classes' rounds, before and after a join is on disk."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(["federate", *DETERMINISTIC, "engine.num_workers=1", f"run.dir={whole}"]) == 0

    def interrupted(place: object, name: str, call: int, *, before: bool = False) -> None:
        real, calls = getattr(place, name), [0]

        def breaking(*args: object, **kwargs: object) -> object:
            calls[0] += 1
            if before and calls[0] == call:
                raise KeyboardInterrupt
            found = real(*args, **kwargs)
            if calls[0] == call:
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(place, name, breaking)
            assert run(["federate", *DETERMINISTIC, f"run.dir={broken}"]) == 1

    interrupted(Watcher, "on_round", 1)
    interrupted(Rounds, "go_on", 1)
    interrupted(lock_step, "save_joins", 1, before=True)
    interrupted(lock_step, "save_joins", 1)
    interrupted(Rounds, "concluded", 2, before=True)
    said = capsys.readouterr().err
    assert f"go on with: fedlite federate run.dir={broken}" in said
    assert run(["federate", f"run.dir={broken}"]) == 0
    assert students(broken) == students(whole)
    rounds = load_joins(broken / "joins.pt").history
    assert rounds == load_joins(whole / "joins.pt").history


# --- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["+federation.classes.tiny={student: mpl}"], "classes.tiny: student=mpl: no such choice"),
        (["+federation.classes.tiny={students: mlp}"], "federation.classes.tiny.students"),
        (["+federation.classes.tiny={share: 0}"], "federation.classes.tiny.share=0: must be > 0"),
        (["federation.classes.small.share=1000"], "classes.tiny.share=1: no client of 6 is left"),
        (["federation.classes.tiny.max_bytes=900"], "class tiny: federation.classes.tiny.max_byte"),
        (["fleet=phones"], "fleet:"),
        (["engine=ray"], "engine=ray:"),
        (["privacy.ledger_dir=elsewhere"], "privacy.ledger_dir:"),
        (["federation.class_name=tony"], "no such class; did you mean tiny?"),
        (["federation.class_name=tiny"], "train the class alone with federation.join.every=0"),
        (["federation.join.every=0", "federation.compare=true"], "alone already"),
        (["privacy.epsilon=1,2", "-m"], "-m: a sweep compares runs of one student"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_trained(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    code = run(["simulate", *TINY, *CLASSES, *options, f"run.dir={directory}"])
    said = capsys.readouterr().err
    assert code == 2, said
    assert words in said
    assert said.strip().count("\n") == 0 or "job" in said
    assert not list(directory.rglob("*.pt"))


def test_a_directory_is_of_one_student_or_of_several(
    classes_run: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = ("federation.class_name=tiny", "federation.join.every=0", "federation.compare=false")
    assert run(["federate", str(classes_run), *alone]) == 2
    assert "holds several classes of students" in capsys.readouterr().err
    assert run(["federate", str(finished_run), *CLASSES[:2]]) == 2
    assert "holds a run of one student" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tune", "search-student"])
def test_commands_on_one_student_refuse_classes(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, *TINY, *CLASSES, f"run.dir={tmp_path / 'run'}"]) == 2
    assert "this command is about one student" in capsys.readouterr().err


def test_other_classes_are_refused_by_name(
    classes_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "+federation.classes.tiny={student: mlp, kwargs: {hidden: [9]}}"
    assert run(["simulate", f"run.dir={classes_run}", "run.resume=true", other]) == 2
    said = capsys.readouterr().err
    assert "other classes (federation.classes.tiny" in said
    assert "hidden:[8]" in said
    assert "hidden:[9]" in said


@pytest.mark.parametrize(
    "command",
    [["ledger"], ["predict", "input=x.npz"], ["verify"], ["demo"]],
    ids=lambda one: one[0],
)
def test_what_is_about_one_run_names_the_classes_to_choose_from(
    command: list[str], classes_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command
    assert run([name, str(classes_run), *rest]) == 2
    said = capsys.readouterr().err
    assert f"give one of {classes_run / 'classes' / 'small'}" in said


def test_a_command_on_all_classes_goes_through_each(
    classes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(classes_run, tmp_path / "copy")
    for old in (*copy.rglob("report.md"), copy / "classes.csv"):
        old.unlink()
    assert run(["report", str(copy)]) == 0
    said = capsys.readouterr().out
    assert "Classes of students" in said
    assert "cost no epsilon" in said
    for directory in (copy, *(copy / "classes" / name for name in NAMES)):
        assert (directory / "report.md").is_file()
    assert (copy / "classes.csv").read_text() == (classes_run / "classes.csv").read_text()


def test_a_class_is_a_run_for_every_other_command(
    classes_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = str(classes_run / "classes" / "tiny")
    assert run(["verify", tiny]) == 0
    assert run(["ledger", tiny]) == 0
    assert "Largest over 2" in capsys.readouterr().out
    assert run(["report", tiny]) == 0
    assert run(["federate", tiny, "privacy.epsilon=9"]) == 2
    assert "privacy.epsilon=8 then, 9 now" in capsys.readouterr().err


def test_from_python_a_plan_is_of_one_class() -> None:
    options = (*CLASSES[:3], "privacy.expected_examples=50")
    with pytest.raises(fedlite.UsageError, match=r"add federation\.class_name=NAME"):
        fedlite.plan(*options)
    assert fedlite.plan(*options, "federation.class_name=tiny").clients == 2


def test_a_plan_has_the_epsilon_of_each_class(capsys: pytest.CaptureFixture[str]) -> None:
    classes = CLASSES[:2]
    options = ("federation.num_clients=9", "privacy=client", "federation.fraction=0.5")
    drawn = ("federation.sampling=bernoulli", "privacy.client.delta=0.01")
    assert run(["plan", *classes, *options, *drawn]) == 0
    said = capsys.readouterr().out
    assert "Class tiny: student mlp" in said
    assert "Clients: 3, 50% of them" in said
    assert "Clients: 6, 50% of them" in said
