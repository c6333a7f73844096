"""Rule 1, whose ledgers: a simulated client's number never comes to hold other examples."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.errors import FedliteError, UsageError
from fedlite.cli.main import run
from fedlite.federation import ledgers as ledgers_module
from fedlite.federation.ledgers import hold_ledgers
from fedlite.privacy import division as division_module
from fedlite.privacy.charges import Charge
from fedlite.privacy.division import DIVISION_FILE, Division, read_division
from fedlite.privacy.ledger import LedgerError
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.privacy.planted import caught
from tests.privacy.world import begun, held, into_files, ledger_of, simulation_options

LIMITS = {"budget": 8.0, "delta": 1e-5, "accountant": "rdp"}


def arrays(rows: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 17, (rows, 1, 8, 8), dtype=np.uint8),
        "y_train": np.arange(rows) % 4,
        "other": (np.arange(rows) + 1) % 4,
        "people": np.arange(rows) % 8,
        "wards": np.arange(rows) // 25,
    }


@pytest.fixture
def own(tmp_path: Path, tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    """The configuration of a run on ``own.npz``, with ledgers shared in ``kept``."""
    np.savez(tmp_path / "own.npz", **arrays())  # type: ignore[arg-type]
    options = (
        "dataset=npz",
        f"dataset.root={tmp_path}",
        "dataset.files.data=own.npz",
        "dataset.keys.groups_train=people",
        "dataset.public_size=50",
        f"privacy.ledger_dir={tmp_path / 'kept'}",
    )
    return lambda *overrides: tiny_config(*options, *overrides)


def charge_one(config: Config, tmp_path: Path) -> None:
    with held(config):
        ledger = ledger_of(tmp_path / "kept", config, 0)
        assert ledger.charge(Charge("run", 1, 2.0, 0.1, 1), **LIMITS).accepted


def change(tmp_path: Path, **changed: np.ndarray) -> None:
    np.savez(tmp_path / "own.npz", **{**arrays(), **changed})  # type: ignore[arg-type]


def other_rows(tmp_path: Path) -> None:
    change(tmp_path, x_train=arrays(seed=1)["x_train"])


def one_value_of_one_row(tmp_path: Path) -> None:
    inputs = arrays()["x_train"]
    inputs += 1  # a row of every part, so of a client's too
    change(tmp_path, x_train=inputs)


def rows_in_another_order(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(200)
    np.savez(tmp_path / "own.npz", **{name: one[order] for name, one in arrays().items()})


def more_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **arrays(240))  # type: ignore[arg-type]


OTHER_FILES = (other_rows, one_value_of_one_row, rows_in_another_order, more_rows)
OTHER_OPTIONS = (
    "dataset.keys.labels_train=other",
    "federation.num_clients=3",
    "partition=dirichlet",
    "dataset.holdout_size=10",
    "seed=1",
)


def refusal_of(config: Config, kind: type[FedliteError]) -> str:
    """Why the ledgers of a run cannot be held, or ""."""
    try:
        with held(config):
            return ""
    except kind as error:
        return str(error)


def check_other_examples_are_refused(config: Config, tmp_path: Path) -> None:
    kept = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*")}
    said = refusal_of(config, UsageError)
    assert said, "a client's number holds other examples"
    assert "other examples" in said
    assert "\n" not in said
    assert {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*")} == kept


def test_other_files_under_the_same_name_are_refused(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    for change_files in OTHER_FILES:
        change_files(tmp_path)
        check_other_examples_are_refused(own(), tmp_path)


def test_other_options_that_divide_otherwise_are_refused(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    for option in OTHER_OPTIONS:
        check_other_examples_are_refused(own(option), tmp_path)


def test_other_data_set_ids_are_named(own: Callable[..., Config], tmp_path: Path) -> None:
    charge_one(own(), tmp_path)
    words = r"those of npz-client-0000 .* not of elsewhere-client-0000: the data set ids differ"
    with pytest.raises(UsageError, match=words), held(own("dataset.name=elsewhere")):
        pass


def test_other_groups_are_refused_where_they_divide(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    natural = ("partition=natural", "federation.num_clients=null", "dataset.public_size=60")
    charge_one(own(*natural), tmp_path)
    check_other_examples_are_refused(own(*natural, "dataset.keys.groups_train=wards"), tmp_path)


def test_the_same_examples_under_other_options_are_welcome(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("kept", "moved"))
    for options in (
        (f"dataset.root={tmp_path / 'moved'}",),
        ("dataset.keys.groups_train=wards",),  # which this partition does not look at
        ("privacy.epsilon=2", "federation.rounds=9", "privacy.unit=both"),
        ("privacy.unit=client",),
    ):
        with held(own(*options)):
            assert len(ledger_of(tmp_path / "kept", own(), 0).entries()) == 1


def test_the_planted_bug_of_binding_option_names_is_caught(
    own: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge_one(own(), tmp_path)
    other_rows(tmp_path)

    def names_alone(directory: Path, *_: Any, **__: Any) -> Division | None:
        return read_division(directory)

    monkeypatch.setattr(ledgers_module, "_bound", names_alone)
    with caught("holds other examples"):
        check_other_examples_are_refused(own(), tmp_path)


def test_a_started_run_notices_other_files(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "run")
    state = json.loads((copy / "state.json").read_text())
    assert len(state["stages"]["plan"]["division"]) == 64
    state["stages"]["plan"]["division"] = "0" * 64
    (copy / "state.json").write_text(json.dumps(state))
    assert "other examples" in refusal(capsys, 2, "report", f"run.dir={copy}")


# --- the property ---------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    first=st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), min_size=1),
    second=st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), min_size=1),
)
def test_a_division_is_the_same_where_everybody_holds_the_same(
    first: dict[str, str], second: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, two = Division(first), Division(dict(reversed(second.items())), ("a",))
    assert (one.sha256 == two.sha256) == (first == second)
    folder = tmp_path_factory.mktemp("division")
    two.write(folder)
    assert read_division(folder) == two


# --- directories from before, and broken ones -----------------------------------------------


def options_of(config: Config, num_clients: int | None = 4) -> dict[str, Any]:
    """What a directory was bound to before: names of options."""
    return {
        "dataset": config.dataset.name,
        "partition": dataclasses.asdict(config.partition),
        "num_clients": num_clients,
        "seed": config.seed,
    }


def test_a_directory_from_before_is_bound_at_its_first_use_and_says_so(
    own: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    charge_one(own(), tmp_path)
    into_files(tmp_path / "kept")
    for number in (1, 2, 3):  # as before: a client that never trained has none
        (tmp_path / "kept" / f"npz-client-000{number}.ledger").unlink()
    file = tmp_path / "kept" / DIVISION_FILE
    file.write_text(json.dumps(options_of(own(), num_clients=3)))
    with pytest.raises(UsageError, match="another data set, partition"), held(own()):
        pass
    file.write_text(json.dumps(options_of(own())))
    with caplog.at_level(logging.WARNING), held(own()):
        assert "from now on they are bound to the examples" in caplog.text
    assert len(ledger_of(tmp_path / "kept", own(), 0).entries()) == 1
    assert ledger_of(tmp_path / "kept", own(), 3).entries() == []
    assert not (tmp_path / "kept" / "clients.ledgers").exists()
    other_rows(tmp_path)
    check_other_examples_are_refused(own(), tmp_path)


def check_a_division_that_says_nothing_is_refused(config: Config, tmp_path: Path) -> None:
    said = refusal_of(config, FedliteError)
    assert said, "any division is taken"
    assert "is no division of ledgers; restore it" in said


def bare_divisions(config: Config) -> list[dict[str, Any]]:
    """Empty, of parts of the options, and of a format that is not known."""
    old = options_of(config)
    parts = [{name: value for name, value in old.items() if name != left} for left in old]
    return [{}, *parts, {**old, "format": "fedlite-division-9"}]


def test_a_division_that_says_too_little_is_refused(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    file = tmp_path / "kept" / DIVISION_FILE
    for content in bare_divisions(own()):
        file.write_text(json.dumps(content))
        check_a_division_that_says_nothing_is_refused(own("seed=1"), tmp_path)
        assert json.loads(file.read_text()) == content


def test_the_planted_bug_of_taking_what_is_empty_for_an_old_division_is_caught(
    own: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge_one(own(), tmp_path)
    into_files(tmp_path / "kept")
    (tmp_path / "kept" / DIVISION_FILE).write_text("{}")
    monkeypatch.setattr(division_module, "NAMED_BEFORE", set())
    with caught("any division is taken"):
        check_a_division_that_says_nothing_is_refused(own("seed=1"), tmp_path)


def test_ledgers_that_nothing_says_whose_they_are_are_refused(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    file = tmp_path / "kept" / DIVISION_FILE
    kept = file.read_text()
    file.unlink()
    with pytest.raises(UsageError, match=r"no division\.json that says whose"), held(own()):
        pass
    file.write_text("{")
    with pytest.raises(FedliteError, match="nothing was trained"), held(own()):
        pass
    file.write_text(kept)
    (tmp_path / "kept" / "clients.ledgers").rename(tmp_path / "taken")
    with pytest.raises(FedliteError, match=r"clients\.ledgers: is missing"), held(own()):
        pass
    (tmp_path / "taken").rename(tmp_path / "kept" / "clients.ledgers")
    into_files(tmp_path / "kept")
    (tmp_path / "kept" / "npz-client-0003.ledger").unlink()
    with pytest.raises(FedliteError, match=r"npz-client-0003\.ledger: is missing"), held(own()):
        pass


def test_a_start_that_was_broken_off_goes_on(
    own: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the store was begun, and before the division knows of it."""

    def broken_off(ledgers: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledgers_module, "create_ledgers", broken_off)
        with pytest.raises(KeyboardInterrupt), held(own()):
            pass
    assert (tmp_path / "kept" / "clients.ledgers").exists()
    charge_one(own(), tmp_path)
    assert len(ledger_of(tmp_path / "kept", own(), 0).entries()) == 1


def test_a_start_that_was_broken_off_goes_on_with_files(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    with held(own()):
        into_files(tmp_path / "kept")
    division = read_division(tmp_path / "kept")
    assert division is not None
    dataclasses.replace(division, begun=()).write(tmp_path / "kept")
    for path in (tmp_path / "kept").glob("npz-client-0003.ledger*"):
        path.unlink()
    charge_one(own(), tmp_path)
    assert len(list((tmp_path / "kept").glob("*.ledger"))) == 4


# --- a stray ledger -------------------------------------------------------------------------


def check_strays_weaken_nothing(config: Config) -> None:
    """A run is refused in one line, which says what to do."""
    said = refusal_of(config, FedliteError)
    assert said, "two places for one client's charges"
    assert "move" in said
    assert "\n" not in said


def a_new_file(folder: Path) -> None:
    """A ledger of the first client with nothing spent, and its mark."""
    begun(LedgerFile(folder / "npz-client-0000.ledger", "npz-client-0000"))


def test_a_file_beside_a_store_is_refused_and_never_charged(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    a_new_file(tmp_path / "kept")
    assert len(ledger_of(tmp_path / "kept", own(), 0).entries()) == 1
    check_strays_weaken_nothing(own())
    (tmp_path / "kept" / "clients.ledgers").unlink()  # the file is not taken in its place
    with pytest.raises(LedgerError, match=r"clients\.ledgers: is missing"):
        ledger_of(tmp_path / "kept", own(), 0).entries()
    assert "move" in refusal_of(own(), FedliteError)


def test_a_store_beside_files_is_refused_and_never_charged(
    own: Callable[..., Config], tmp_path: Path
) -> None:
    charge_one(own(), tmp_path)
    into_files(tmp_path / "kept")
    LedgerStore(tmp_path / "kept" / "clients.ledgers").begin(["npz-client-0000"])
    assert len(ledger_of(tmp_path / "kept", own(), 0).entries()) == 1
    check_strays_weaken_nothing(own())


def test_the_planted_bug_of_taking_whatever_lies_there_is_caught(
    own: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge_one(own(), tmp_path)
    a_new_file(tmp_path / "kept")

    def anything(directory: Path) -> set[str]:
        return {"clients", *(path.stem for path in directory.glob("*.ledger"))}

    monkeypatch.setattr(ledgers_module, "present_ledgers", anything)
    with caught("two places for one client's charges"):
        check_strays_weaken_nothing(own())


def test_a_run_from_before_divisions_goes_on(
    finished_run: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "run")
    into_files(copy / "ledgers")
    (copy / "ledgers" / DIVISION_FILE).unlink()
    state = json.loads((copy / "state.json").read_text())
    del state["stages"]["plan"]["division"]
    (copy / "state.json").write_text(json.dumps(state))
    assert run(["report", f"run.dir={copy}"]) == 0
    config = tiny_config(*TINY)
    options = simulation_options(config, copy)
    division = Division({f"digits-client-000{i}": "0" for i in range(4)})
    with hold_ledgers(options, division, unbound=True):
        assert read_division(copy / "ledgers") is not None
        assert len(ledger_of(copy / "ledgers", config, 0).entries()) == 3
    assert not (copy / "ledgers" / "clients.ledgers").exists()


def test_a_run_from_before_divisions_begins_no_ledgers_anew(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(copy / "ledgers")
    state = json.loads((copy / "state.json").read_text())
    del state["stages"]["plan"]["division"]
    del state["stages"]["federate"]
    (copy / "state.json").write_text(json.dumps(state))
    assert run(["federate", f"run.dir={copy}", "run.resume=true"]) == 1
    assert "the ledgers that this run has charged are not there" in capsys.readouterr().err
    assert not list(copy.glob("ledgers/*.ledger*"))
