"""What is wrong by itself is said at once, in the words of the check that knows all options."""

import pytest

from fedlite.base.errors import UsageError
from fedlite.runs.at_once import check_at_once
from fedlite.runs.compose import compose_config


@pytest.mark.parametrize(
    "typed",
    [
        "federation.rounds=0",
        "federation.rounds=2.5",
        "federation.rounds=many",
        "+federation.rounds=-1",
        "privacy.sample_rate=1.5",
        "privacy.epsilon=-3",
        "privacy.epsilon=three",
        "device=gpu",
        "compress.bits=5",
        "run.resume=perhaps",
        "dataset.keys=label",
    ],
)
def test_the_words_are_those_of_the_whole_check(typed: str) -> None:
    with pytest.raises(UsageError) as at_once:
        check_at_once([typed])
    with pytest.raises(UsageError) as later:
        compose_config([typed])
    assert str(at_once.value) == str(later.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["federation.rounds=0", "federation.rounds=3"],  # the last one counts
        ["privacy.epsilon=null", "privacy.noise_multiplier=1.5"],
        ["run.dir=0", "dataset.root=data", "seed=7", "run.resume=yes"],
        ["student=mlp", "teacher.kwargs.hidden=0", "federation.rounds=2,3", "--config-dir=conf"],
    ],
)
def test_what_may_be_right_is_left_to_it(typed: list[str]) -> None:
    check_at_once(typed)
