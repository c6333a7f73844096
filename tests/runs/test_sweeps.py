"""What a job of a sweep is called in TensorBoard: its own options."""

import json
from pathlib import Path

import pytest

from fedlite.runs.sweeps import board_folder, swept_values, write_swept


def job(folder: Path, swept: list[str], given: list[str]) -> Path:
    """A job's directory in a sweep's."""
    write_swept(folder, swept)
    (folder / "0").mkdir()
    (folder / "0" / "overrides.json").write_text(json.dumps(given))
    return folder / "0"


@pytest.mark.parametrize(
    ("swept", "given", "name"),
    [
        ("privacy.epsilon", "privacy.epsilon=2", "epsilon=2"),
        ("student", "student=mlp", "student=mlp"),
        ("seed", "seed=1", "seed=1"),
        ("teacher.kwargs.channels", "teacher.kwargs.channels=[8]", "channels=_8_"),
        ("dataset.root", "dataset.root='/a/Jörg (1)'", "root=__a_Jörg__1__"),
        ("seed", "federation.rounds=9", "."),
    ],
)
def test_a_job_is_named_by_what_the_sweep_varies(
    tmp_path: Path, swept: str, given: str, name: str
) -> None:
    run_dir = job(tmp_path / "sweep", [swept], ["device=cpu", given])
    assert board_folder(run_dir, swept_values(run_dir)) == run_dir / name


def test_what_is_swept_keeps_its_key_and_value(tmp_path: Path) -> None:
    given = ["privacy.epsilon=4", "seed=2"]
    run_dir = job(tmp_path / "sweep", ["privacy.epsilon", "seed"], given)
    found = swept_values(run_dir)
    assert found == {"privacy.epsilon": "4", "seed": "2"}
    assert board_folder(run_dir, found).name == "epsilon=4,seed=2"


def test_a_run_outside_a_sweep_has_no_name_of_its_own(tmp_path: Path) -> None:
    assert swept_values(tmp_path) == {}
    assert board_folder(tmp_path, {}) == tmp_path


def test_a_job_from_before_goes_on_where_its_events_are(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    assert board_folder(tmp_path, {"privacy.epsilon": "2"}) == tmp_path


def test_names_are_short_and_stay_in_the_run_s_folder(tmp_path: Path) -> None:
    for value in ("x" * 500, "../../etc", ".."):
        found = board_folder(tmp_path, {"dataset.root": value})
        assert found.resolve().parent == tmp_path.resolve()
        assert len(found.name) <= 60
