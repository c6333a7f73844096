"""What a job of a sweep is called in TensorBoard: its own options, from what Hydra wrote."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fedlite.runs.sweeps import board_folder, swept_values


def job(folder: Path, typed: list[str], given: list[str]) -> Path:
    """A job's directory in a sweep's."""
    folder.mkdir(parents=True)
    written = OmegaConf.create({"hydra": {"overrides": {"task": typed}}})
    OmegaConf.save(written, folder / "multirun.yaml")
    (folder / "0").mkdir()
    (folder / "0" / "overrides.json").write_text(json.dumps(given))
    return folder / "0"


@pytest.mark.parametrize(
    ("typed", "given", "name"),
    [
        ("privacy.epsilon=2,4", "privacy.epsilon=2", "epsilon=2"),
        ("student=cnn,mlp", "student=mlp", "student=mlp"),
        ("seed=range(0,2)", "seed=1", "seed=1"),
        ("teacher.kwargs.channels=[8],[16]", "teacher.kwargs.channels=[8]", "channels=_8_"),
        ("dataset.root='/a/Jörg (1)',/b", "dataset.root='/a/Jörg (1)'", "root=__a_Jörg__1__"),
        ("federation.rounds=9", "federation.rounds=9", "."),
    ],
)
def test_a_job_is_named_by_what_the_sweep_varies(
    tmp_path: Path, typed: str, given: str, name: str
) -> None:
    run_dir = job(tmp_path / "sweep", ["device=cpu", typed], ["device=cpu", given])
    assert board_folder(run_dir, swept_values(run_dir)) == run_dir / name


def test_what_is_swept_keeps_its_key_and_value(tmp_path: Path) -> None:
    typed, given = ["privacy.epsilon=2,4", "seed=1,2"], ["privacy.epsilon=4", "seed=2"]
    run_dir = job(tmp_path / "sweep", typed, given)
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
