"""What several runs spent on the same examples: composed from all of their ledgers."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError
from fedlite.federation.plans import Plans
from fedlite.federation.server_app import open_server_ledger
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.report.sections import TogetherSection
from fedlite.report.together import together_sentences
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory, run_id_of
from fedlite.runs.together import spent_together
from tests.privacy.planted import caught
from tests.privacy.world import begun, ledger_of

CLIENTS = 4
SMALL = ("privacy.accountant=rdp", "federation.num_clients=4", "federation.rounds=3")
FREELY = {"budget": 1e9, "accountant": "rdp"}
Compose = Callable[..., Config]


def a_run(
    directory: Path,
    config: Config,
    charges: Sequence[Sequence[Segment]],
    server: int = 0,
    division: str | None = None,
) -> Path:
    """A run whose clients charged these steps, one round each, and its server so many releases."""
    directory.mkdir(parents=True)
    plans = Plans()
    if config.privacy.private:
        plans = Plans.build(config.privacy, config.federation, [60] * CLIENTS)
    facts = {"plans": plans.to_facts(), "ledger_dir": None, "fingerprint": "x", "seconds": 0}
    facts["division"] = division
    run = RunDirectory(directory, directory.name, {"plan": facts})
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(directory)))
    run.keep_options(config, [])
    run.forget()
    folder = Path(config.privacy.ledger_dir or directory / "ledgers")
    for client, segments in enumerate(charges):
        for number, segment in enumerate(segments, 1):
            charge = Charge(run.run_id, number, *segment)
            ledger = begun(ledger_of(folder, config, client))
            assert ledger.charge(charge, delta=1e-5, **FREELY).accepted
    for number in range(1, server + 1):
        assert plans.client is not None
        ledger = begun(open_server_ledger(folder, config.dataset.name))
        charge = Charge(run.run_id, number, *plans.client.segment)
        assert ledger.charge(charge, delta=1e-3, **FREELY).accepted
    assert run_id_of(directory) == directory.name
    return directory


def spent(found: TogetherSection, unit: str = "example") -> float:
    (epsilon,) = (one["epsilon"] for one in found["units"] if one["unit"] == unit)
    return epsilon


def check_counts_every_run(found: TogetherSection, histories: Sequence[Sequence[Segment]]) -> None:
    """No less than what the worst example was charged in all runs."""
    truth = max(compute_epsilon(history, 1e-5, "rdp") for history in histories)
    assert spent(found) >= truth - 1e-9, "the runs spent more together than is told"


STEP = (2.0, 0.3, 5)
OTHER = (1.5, 0.3, 5)


def test_runs_on_one_division_are_composed_client_by_client(
    tmp_path: Path, tiny_config: Compose
) -> None:
    config = tiny_config(*SMALL)
    first = a_run(tmp_path / "0", config, [[STEP] * 3, [STEP], [STEP], []])
    second = a_run(tmp_path / "1", config, [[OTHER], [OTHER] * 3, [], [OTHER]])
    found = spent_together([first, second])
    truth = [[STEP] * 3 + [OTHER], [STEP] + [OTHER] * 3, [STEP], [OTHER]]
    check_counts_every_run(found, truth)
    assert spent(found) == pytest.approx(max(compute_epsilon(h, 1e-5, "rdp") for h in truth))
    assert found["divisions"] == 1
    words = " ".join(together_sentences(found))
    assert words.startswith("All 2 jobs together: epsilon ")
    assert "whoever chooses among them" in words
    with caught("spent more together than is told"):  # the planted bug: each job's own epsilon
        check_counts_every_run(spent_together([first]), truth)


def test_divisions_that_differ_are_bounded_by_the_worst_client_of_each(
    tmp_path: Path, tiny_config: Compose
) -> None:
    first = a_run(tmp_path / "0", tiny_config(*SMALL), [[STEP] * 3, [STEP], [], []])
    second = a_run(tmp_path / "1", tiny_config(*SMALL, "seed=1"), [[], [], [], [OTHER] * 2])
    found = spent_together([first, second])
    check_counts_every_run(found, [[STEP] * 3 + [OTHER] * 2])  # an example may be in both
    assert found["divisions"] == 2
    assert "at most epsilon" in together_sentences(found)[0]


def test_it_is_the_examples_that_make_a_division_not_the_options(
    tmp_path: Path, tiny_config: Compose
) -> None:
    first, second = [[STEP] * 3, [STEP], [], []], [[], [], [], [OTHER] * 2]
    for number, (others, divisions) in enumerate((("files changed", 2), ("the same", 1))):
        folder, config = tmp_path / str(number), tiny_config(*SMALL)
        jobs = [
            a_run(folder / "0", config, first, division="the same"),
            a_run(folder / "1", config, second, division=others),
        ]
        found = spent_together(jobs)
        assert found["divisions"] == divisions
        truth = [STEP] * 3 + [OTHER] * 2 if divisions == 2 else [STEP] * 3
        check_counts_every_run(found, [truth])


def test_ledgers_that_runs_share_are_read_once(tmp_path: Path, tiny_config: Compose) -> None:
    config = tiny_config(*SMALL, f"privacy.ledger_dir={tmp_path / 'shared'}")
    first = a_run(tmp_path / "0", config, [[STEP], [], [], []])
    second = a_run(tmp_path / "1", config, [[OTHER], [], [], []])
    found = spent_together([first, second])
    assert spent(found) == pytest.approx(compute_epsilon([STEP, OTHER], 1e-5, "rdp"))


def test_a_job_that_failed_half_way_counts_and_one_that_never_began_does_not(
    tmp_path: Path, tiny_config: Compose
) -> None:
    config = tiny_config(*SMALL)
    done = a_run(tmp_path / "0", config, [[STEP] * 3] * CLIENTS)
    failed = a_run(tmp_path / "1", config, [[STEP], [], [], []])
    found = spent_together([done, failed, tmp_path / "2"])
    check_counts_every_run(found, [[STEP] * 4])
    assert found["jobs"] == 2
    alone = spent_together([done])
    assert together_sentences(alone) == []


def test_a_job_without_privacy_leaves_all_together_without_a_guarantee(
    tmp_path: Path, tiny_config: Compose
) -> None:
    private = a_run(tmp_path / "0", tiny_config(*SMALL), [[STEP]] * CLIENTS)
    for number, options in enumerate((("privacy=none",), ("privacy.randomness=deterministic",)), 1):
        charges = [] if "none" in options[0] else [[STEP]] * CLIENTS
        other = a_run(tmp_path / str(number), tiny_config(*SMALL, *options), charges)
        found = spent_together([private, other])
        assert found["not_private"] == 1
        assert "1 of the 2 jobs NOT PRIVATE" in " ".join(together_sentences(found))


def test_units_are_never_added_up(tmp_path: Path, tiny_config: Compose) -> None:
    example = a_run(tmp_path / "0", tiny_config(*SMALL), [[STEP]] * CLIENTS)
    client = a_run(tmp_path / "1", tiny_config(*SMALL, "privacy=client"), [], server=3)
    found = spent_together([example, client])
    assert spent(found) == pytest.approx(compute_epsilon([STEP], 1e-5, "rdp"))
    assert spent(found, "client") > 0
    assert "there is no epsilon" in " ".join(together_sentences(found)).replace("so for all", "")


def test_who_took_part_how_often_stays_hidden(tmp_path: Path, tiny_config: Compose) -> None:
    options = ("privacy=both", "federation.fraction=0.5", "federation.sampling=bernoulli")
    config = tiny_config(*SMALL, *options)
    step = Plans.build(config.privacy, config.federation, [60] * CLIENTS).example.segment
    once = a_run(tmp_path / "0", config, [[step], [], [], []], server=3)
    often = a_run(tmp_path / "1", config, [[step] * 3, [step], [], []], server=3)
    assert spent(spent_together([once])) == spent(spent_together([often]))


def test_a_damaged_ledger_is_an_error(tmp_path: Path, tiny_config: Compose) -> None:
    run = a_run(tmp_path / "0", tiny_config(*SMALL), [[STEP]] * CLIENTS)
    file = next((run / "ledgers").glob("*.ledger"))
    lines = file.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"sha256": "0" * 64})
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(FedliteError, match="damaged"):
        spent_together([run])
