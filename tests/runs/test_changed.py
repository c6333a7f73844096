"""What a report shows of the configuration: the options that are not as they are by default."""

from fedlite.runs.changed import changed_options
from fedlite.runs.compose import compose_config


def test_nothing_differs_where_nothing_is_given() -> None:
    assert changed_options(compose_config(["run.dir=elsewhere", "tracking.progress=false"])) == {}


def test_values_and_what_a_group_brings_are_named_by_their_full_key() -> None:
    changed = changed_options(compose_config(["privacy.epsilon=3", "privacy=aggregate"]))
    assert changed["privacy.epsilon"] == 3.0
    assert changed["privacy.trust"] == "aggregate"
    assert not any(key.startswith("dataset.") for key in changed)
