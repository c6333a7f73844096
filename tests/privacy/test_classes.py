"""Classes of students (docs/classes.md): each is planned and charged as a federation of its own."""

from pathlib import Path

import pytest

from fedlite.base.errors import UsageError
from fedlite.data.splits import Splits
from fedlite.runs import pipeline
from fedlite.runs.class_jobs import class_jobs
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from tests.conftest import TINY
from tests.privacy.planted import caught
from tests.privacy.world import Untrained

SIZES = {"tiny": 8, "small": 16}
CLASSES = (
    *TINY,
    "+federation.classes.tiny={student: mlp, share: 1}",
    "+federation.classes.small={student: cnn, share: 2}",
    "federation.num_clients=24",
)


def configs(*overrides: str) -> dict[str, Config]:
    given = [*CLASSES, *overrides]
    jobs = class_jobs(compose_config(given), given, Path())
    return {name: job.config for name, job in jobs.items()}


# --- the checks -----------------------------------------------------------------------------


def check_every_client_has_the_ledger_of_its_own_data(directory: Path) -> None:
    """Under the id, and of the examples, that it has where there are no classes (rule 1)."""
    whole = Untrained(compose_config([*TINY, "federation.num_clients=24"]), directory)
    known = dict(whole.division.examples)
    for config in configs().values():
        for name, held in Untrained(config, directory).division.examples.items():
            assert known.pop(name, "") == held, "a ledger of other data"
    assert not known, "clients in no class"


def check_plans_count_on_the_clients_of_the_class(directory: Path) -> None:
    """Cohorts, expected cohorts and delta are those of so many clients (rules 14, 15 and 19)."""
    drawn = ("federation.fraction=0.5", "federation.sampling=bernoulli")
    for name, config in configs("privacy=client", *drawn).items():
        plan = Untrained(config, directory).plans.client
        assert plan is not None
        assert plan.expected_cohort == SIZES[name] / 2, "planned for others"
        assert plan.delta < 1 / SIZES[name]
    for name, config in configs("privacy=aggregate").items():
        example = Untrained(config, directory).plans.example
        assert example is not None
        assert 2 <= example.min_cohort <= SIZES[name], "planned for others"


def test_every_client_has_the_ledger_of_its_own_data(tmp_path: Path) -> None:
    check_every_client_has_the_ledger_of_its_own_data(tmp_path)


def test_plans_count_on_the_clients_of_the_class(tmp_path: Path) -> None:
    check_plans_count_on_the_clients_of_the_class(tmp_path)


def test_a_cohort_larger_than_the_class_is_refused(tmp_path: Path) -> None:
    config = configs("privacy=aggregate", "privacy.aggregate.min_cohort=12")["tiny"]
    with pytest.raises(UsageError, match="no round has more than 8 clients"):
        _ = Untrained(config, tmp_path).plans


# --- planted bugs ---------------------------------------------------------------------------


def test_planted_ledgers_by_the_number_within_a_class_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients then charge one budget's name, and classes drawn anew renew it."""
    local = property(lambda self: range(self.num_clients))
    monkeypatch.setattr(Splits, "all_numbers", local)
    with caught("a ledger of other data"):
        check_every_client_has_the_ledger_of_its_own_data(tmp_path)


def test_planted_plans_for_all_clients_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise would then be sized for a cohort that no class has."""
    whole = compose_config([*TINY, "federation.num_clients=24"])
    monkeypatch.setattr(pipeline, "splits_of", lambda config, known: splits_of(whole))
    with caught("planned for others"):
        check_plans_count_on_the_clients_of_the_class(tmp_path)
