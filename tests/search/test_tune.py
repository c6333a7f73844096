"""The loop of tuning, on federations by formula: what is chosen, and what only looks good."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlite.base.errors import FedliteError
from fedlite.base.intervals import PairedComparison
from fedlite.base.paired_scores import Classes, PairedScores
from fedlite.data.types import ClientData, PublicData, Task
from fedlite.search.harness import Space
from fedlite.search.options import TuneOptions
from fedlite.search.trials import Options
from fedlite.search.tune import TuneResult, describe_tuning, tune_federation
from fedlite.search.tune_world import Fold
from tests.tasks import shaped

EXAMPLES = 200
RATES = [0.1, 0.2, 0.4, 0.8]
SPACE = Space({"rate": RATES}, dict, {"accuracy": "maximize"}, {"rate": 0.1})


TASK = shaped((1,), 2)
RARE = 20  # every so many examples are of class 1


def fold(data_type: type = PublicData) -> Fold:
    inputs, labels = torch.zeros(EXAMPLES, 1), (torch.arange(EXAMPLES) % RARE == 0).long()
    held = data_type(0, inputs, labels) if data_type is ClientData else data_type(inputs, labels)
    return Fold(PublicData(inputs, labels), held)


class World:
    """Federations by formula: ``skill`` says how often one is right, by rate and fold."""

    def __init__(self, skill: dict[float, list[float]], failing: tuple[float, ...] = ()) -> None:
        self.skill, self.failing = skill, failing
        self.run: list[tuple[float, int]] = []
        self.break_at: int | None = None

    def federate(self, options: Options, number: int, folder: Path) -> Classes:
        if len(self.run) == self.break_at:
            raise KeyboardInterrupt
        rate = float(options["rate"])
        assert list(folder.iterdir()) == []
        (folder / "left over").write_text("")
        self.run.append((rate, number))
        if rate in self.failing:
            raise FedliteError("diverged")
        draws = np.random.default_rng([round(100 * rate), number]).random(EXAMPLES)
        labels = fold().validation.labels.numpy()
        return np.where(draws < self.skill[rate][min(number, 1)], labels, 1 - labels)


def tune(world: World, directory: Path, task: Task = TASK, **options: int) -> TuneResult:
    chosen = TuneOptions(**{"trials": 4, "population": 4, "confirmations": 2, **options})
    folds = [fold() for _ in range(chosen.confirmations + 1)]
    return tune_federation(world.federate, folds, SPACE, chosen, task, directory, "one", 0)


def alike(skill: float) -> dict[float, list[float]]:
    return {rate: [skill, skill] for rate in RATES}


def test_a_real_gain_is_chosen(tmp_path: Path) -> None:
    found = tune(World({**alike(0.7), 0.4: [0.9, 0.9]}), tmp_path)
    assert found.changed
    assert found.search.chosen.options == {"rate": 0.4}
    assert found.confirmation is not None
    assert isinstance(found.confirmation, PairedComparison)
    assert found.examples == found.confirmation.examples == 2 * EXAMPLES
    assert found.confirmation.interval[0] > 0
    assert describe_tuning(found).endswith("chosen")


def test_the_task_s_metric_scores_and_confirms(tmp_path: Path) -> None:
    """A federation that always answers the common class is right most often, and finds nothing."""

    class Uneven(World):
        def federate(self, options: Options, number: int, folder: Path) -> Classes:
            answers = super().federate(options, number, folder)
            return np.zeros_like(answers) if options["rate"] == 0.1 else answers

    skill = alike(0.85)
    by_accuracy = tune(Uneven(skill), tmp_path / "accuracy")
    assert by_accuracy.best.number == 0
    task = dataclasses.replace(TASK, metric="macro_f1")
    found = tune(Uneven(skill), tmp_path / "macro_f1", task)
    assert found.changed
    assert isinstance(found.confirmation, PairedScores)
    assert found.confirmation.first == pytest.approx(0.487, abs=0.001)
    text = describe_tuning(found)
    assert "macro-F1 0." in text
    assert f"on {2 * EXAMPLES} other public examples +0." in text
    assert "accuracy" not in text


def test_what_only_looked_good_is_not(tmp_path: Path) -> None:
    """One is much better on the examples that trials are scored on, and like the others on the
    rest: the best of many is partly luck."""
    found = tune(World({**alike(0.7), 0.8: [0.95, 0.7]}), tmp_path)
    assert found.best.options == {"rate": 0.8}, "by its scores alone it would be chosen"
    assert not found.changed
    assert found.search.chosen.number == 0
    assert "nothing is changed" in describe_tuning(found)


def test_ties_go_to_the_hand_set_options(tmp_path: Path) -> None:
    world = World(alike(1.0))
    found = tune(world, tmp_path)
    assert found.best.number == 0
    assert found.confirmation is None
    assert {number for _, number in world.run} == {0}, "nothing is left to confirm"


def test_hand_set_options_that_fail_are_replaced(tmp_path: Path) -> None:
    found = tune(World(alike(0.7), failing=(0.1,)), tmp_path)
    assert found.changed
    assert "the hand-set options failed: diverged" in describe_tuning(found)


def test_a_winner_that_fails_elsewhere_gets_nothing_right_there(tmp_path: Path) -> None:
    class Fragile(World):
        def federate(self, options: Options, number: int, folder: Path) -> Classes:
            answers = super().federate(options, number, folder)
            if number and options["rate"] == 0.4:
                raise FedliteError("diverged")
            return answers

    found = tune(Fragile({**alike(0.7), 0.4: [0.9, 0.9]}), tmp_path)
    assert found.best.options == {"rate": 0.4}
    assert not found.changed
    assert isinstance(found.confirmation, PairedComparison)
    assert found.confirmation.second_right == 0


@pytest.mark.parametrize("after", range(9))
def test_broken_off_anywhere_it_goes_on_and_finds_the_same(tmp_path: Path, after: int) -> None:
    skill = {**alike(0.7), 0.4: [0.9, 0.9]}
    whole = World(skill)
    expected = tune(whole, tmp_path / "whole")
    broken = World(skill)
    broken.break_at = after
    try:
        tune(broken, tmp_path / "broken")
        stopped = False
    except KeyboardInterrupt:
        stopped = True
    assert stopped is (after < len(whole.run))
    broken.break_at = None
    found = tune(broken, tmp_path / "broken")
    assert sorted(broken.run) == sorted(whole.run), "every federation is run once"
    assert found.confirmation == expected.confirmation
    assert found.search.chosen.options == expected.search.chosen.options


def test_more_trials_go_on_with_those_that_are_there(tmp_path: Path) -> None:
    world = World(alike(0.7))
    tune(world, tmp_path, trials=2)
    tune(world, tmp_path, trials=4)
    assert len([number for _, number in world.run if number == 0]) == 4


def test_another_number_of_confirmations_meets_anew(tmp_path: Path) -> None:
    """The folds are then others, and may have other sizes."""
    world = World({**alike(0.7), 0.4: [0.9, 0.9]})
    tune(world, tmp_path, confirmations=2)
    found = tune(world, tmp_path, confirmations=3)
    assert found.examples == 3 * EXAMPLES
    assert len([number for _, number in world.run if number]) == 2 * (2 + 3)


def test_only_public_data_is_judged_on(tmp_path: Path) -> None:
    world = World(alike(0.7))
    with pytest.raises(TypeError, match="only PublicData"):
        tune_federation(
            world.federate,
            [fold(), fold(ClientData)],
            SPACE,
            TuneOptions(),
            TASK,
            tmp_path,
            "one",
            0,
        )
    assert world.run == []


def test_chance_is_adopted_as_seldom_as_the_test_says() -> None:
    """Two students that are equally good: at most one time in 40 one is called better."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(4000):
        first, second = rng.random((2, 400)) < 0.8
        called += PairedComparison.of(first, second).verdict == "better"
    assert called / 4000 < 0.035
