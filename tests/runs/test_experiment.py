"""Experiment files of the user's own: written, read back, refused."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedlite
from fedlite.base.errors import UsageError
from fedlite.runs.compose import compose_config, expand_files
from fedlite.runs.directory import portable
from fedlite.runs.experiment import experiment_overrides, experiment_yaml
from fedlite.runs.typed import values_of

VALUES = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.floats(1e-9, 1e9),
    st.text(alphabet="ab c/.-'\"é:#\\", max_size=8),
    st.none(),
    st.lists(st.floats(0.1, 2), max_size=3),
)


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(["a.b", "a.c.d", "e", "f.g", "f.h"]), VALUES))
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    text = experiment_yaml({"experiment": "har", "student": "mlp"}, values, "two\nlines")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        read = experiment_overrides(path)
    assert read[:2] == ["experiment=har", "++student=mlp"]
    assert values_of(read[2:]) == values


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_given_beside_the_file_wins(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.yaml",
        "defaults: [har, {override /student: mlp}, _self_]\n"
        "federation: {rounds: 7, learning_rate: 0.3}\nprivacy: {epsilon: 3.0}\n",
    )
    common = ["run.dir=x", f"experiment={path}"]
    config = compose_config([*common, "federation.rounds=5"])
    assert (config.federation.rounds, config.federation.learning_rate) == (5, 0.3)
    assert (config.student.name, config.dataset.name) == ("mlp", "har")
    assert config.privacy.epsilon == 3
    other = compose_config(["student=transformer", *common])
    assert (other.student.name, other.federation.rounds) == ("transformer", 7)


def test_a_shipped_experiment_is_one_of_the_users_own_too(tmp_path: Path) -> None:
    """The two readers agree: Hydra's on conf/ and ours on a file."""
    shipped = Path(__file__).parents[2] / "conf" / "experiment" / "fashion_mnist_aggregate.yaml"
    copied = write(tmp_path / "copy.yaml", shipped.read_text(encoding="utf-8"))
    by_name = compose_config(["run.dir=x", "experiment=fashion_mnist_aggregate"])
    assert compose_config(["run.dir=x", f"experiment={copied}"]) == by_name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a: [", "is not YAML"),
        ("- a", "must hold groups of options"),
        ("defaults: har", "defaults must be a list"),
        ("defaults: [3]", "3 in its defaults"),
        ("defaults: [{student: mlp}]", "in its defaults; give"),
    ],
)
def test_what_is_no_experiment_is_refused_in_one_line(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        write(path, text)
    with pytest.raises(UsageError, match=message) as refused:
        expand_files([f"experiment={path}"])
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_misspelt_option_in_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "federation: {raunds: 7}\n")
    with pytest.raises(UsageError, match=r"federation\.raunds: no such option"):
        compose_config(["run.dir=x", f"experiment={path}"])


def test_a_run_from_python_keeps_what_the_file_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone on with from another directory, the run does not look for the file."""
    write(tmp_path / "mine.yaml", "federation: {rounds: 7}\n")
    monkeypatch.chdir(tmp_path)
    kept: list[str] = []

    def execute(config: Any, overrides: list[str], *_: Any, **__: Any) -> None:
        kept.extend(overrides)
        raise UsageError("enough")

    monkeypatch.setattr("fedlite.runs.execute.execute", execute)
    with pytest.raises(UsageError, match="enough"):
        fedlite.simulate("experiment=mine.yaml", dir="run")
    assert kept == ["++federation.rounds=7", f"run.dir={tmp_path / 'run'}"]


def test_a_folder_of_ones_own_adds_to_what_there_is_to_choose(tmp_path: Path) -> None:
    folder = tmp_path / "my conf"
    (folder / "dataset").mkdir(parents=True)
    (folder / "experiment").mkdir()
    write(folder / "dataset" / "tiny.yaml", "defaults: [_base, _self_]\nname: t\nsource: digits\n")
    write(folder / "experiment" / "short.yaml", "# @package _global_\nfederation: {rounds: 7}\n")
    write(folder / "mine.yaml", "defaults: [config, override dataset: tiny, _self_]\nseed: 77\n")
    own = f"--config-dir={folder}"
    found = compose_config([own, "run.dir=x", "dataset=tiny", "experiment=short"])
    assert (found.dataset.name, found.federation.rounds, found.seed) == ("t", 7, 0)
    named = compose_config([own, "--config-name=mine", "run.dir=x"])
    assert (named.dataset.name, named.seed) == ("t", 77)
    assert portable([own, "--config-name=mine"]) == [own, "--config-name=mine"]
    with pytest.raises(UsageError, match="dataset=tny: no such choice; did you mean tiny"):
        compose_config([own, "dataset=tny"])
    with pytest.raises(UsageError, match=r"--config-name=his: no such file in .*my conf"):
        compose_config([own, "--config-name=his"])
