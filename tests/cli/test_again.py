"""Options given again on a run that is there: what is given later wins, as a group too."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.saved import with_saved

Later = Callable[[list[str], list[str]], Config]


@pytest.fixture
def later(tmp_path: Path) -> Later:
    """The configuration of a run that was started with some options and gone on with others."""

    def compose(saved: list[str], given: list[str]) -> Config:
        (tmp_path / "overrides.json").write_text(json.dumps(saved))
        return compose_config([*with_saved(tmp_path, given), "run.dir=x"])

    return compose


def test_a_group_given_again_replaces_all_options_of_the_group(later: Later) -> None:
    saved = ["compress=search", "compress.bits=4", "compress.measure.runs=7", "seed=3"]
    found = later(saved, ["compress=none"])
    assert found.compress == compose_config(["compress=none"]).compress
    assert found.seed == 3
    again = later(saved, ["compress=none", "compress.ratio=0.2"])
    assert (again.compress.quantization, again.compress.ratio) == ("none", 0.2)


def test_an_option_given_again_leaves_its_group(later: Later) -> None:
    found = later(["compress=none", "compress.ratio=0.2"], ["compress.ratio=0.3"])
    assert (found.compress.quantization, found.compress.ratio) == ("none", 0.3)


@pytest.mark.parametrize("group", ["student", "privacy", "dataset", "partition", "federation"])
def test_any_group(group: str, later: Later) -> None:
    names = {"student": "mlp", "privacy": "none", "dataset": "har"}
    names |= {"partition": "dirichlet", "federation": "fedprox"}
    values = {"student": "name=x", "privacy": "epsilon=3", "dataset": "public_size=10"}
    values |= {"partition": "alpha=9", "federation": "rounds=77"}
    choice = f"{group}={names[group]}"
    found = later([f"{group}.{values[group]}"], [choice])
    assert getattr(found, group) == getattr(compose_config([choice]), group)


def test_a_group_given_again_replaces_what_an_experiment_said_of_it(later: Later) -> None:
    started = ["experiment=fashion_mnist_aggregate", "privacy.epsilon=2"]
    found = later(started, ["compress=none"])
    assert found.compress == compose_config(["compress=none"]).compress
    before = compose_config(started)
    assert (found.privacy, found.federation) == (before.privacy, before.federation)
    assert (found.student, found.dataset) == (before.student, before.dataset)


def test_an_experiment_given_again_replaces_what_it_sets(later: Later, tmp_path: Path) -> None:
    found = later(["experiment=har", "privacy.epsilon=3", "seed=5"], ["experiment=fashion_mnist"])
    fresh = compose_config(["experiment=fashion_mnist", "seed=5", "run.dir=x"])
    assert found == fresh
    file = tmp_path / "mine.yaml"
    file.write_text("defaults: [{override /student: mlp}]\nfederation: {rounds: 9}\n")
    found = later(["federation.rounds=3", "student.name=x", "seed=5"], [f"experiment={file}"])
    assert found == compose_config(["student=mlp", "federation.rounds=9", "seed=5", "run.dir=x"])


def test_an_experiment_of_ones_own_is_replaced_whole(later: Later) -> None:
    """The file of the run that is there was spelt out when it began."""
    spelt_out = ["++student=mlp", "++federation.rounds=9", "seed=5"]
    assert later(spelt_out, []).federation.rounds == 9
    found = later(spelt_out, ["experiment=har"])
    assert found == compose_config(["experiment=har", "seed=5", "run.dir=x"])
