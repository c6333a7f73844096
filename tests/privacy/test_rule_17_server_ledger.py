"""Rule 17: the server's ledger persists; the rounds stop before they overspend, results kept."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.cli.main import run
from fedlite.federation.messages import State
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.ledger import Spending
from fedlite.privacy.ledger_file import LedgerFile
from tests.conftest import TINY
from tests.federation.scripted import STUDENT, ScriptedClients, add, federation
from tests.privacy.releases import make_client_plan
from tests.privacy.world import begun


def plan_for(rounds: int, randomness: str = "secure", **changes: object) -> ClientPlan:
    """A budget that so many rounds of all three clients use up exactly."""
    plan = make_client_plan(
        participation_rate=1.0, expected_cohort=3.0, randomness=randomness, **changes
    )
    return replace(plan, epsilon=plan.epsilon_after(rounds))


class PowerCutError(Exception):
    """The server's machine is gone."""


class Server:
    """One run of three clients that may be cut off and resumed; counts all its releases."""

    def __init__(
        self, directory: Path, plan: ClientPlan, ledger: type[LedgerFile] = LedgerFile
    ) -> None:
        self.directory, self.plan, self.ledger_class = directory, plan, ledger
        self.clients = ScriptedClients([add(0.1), add(0.2), add(0.3)])
        self.releases = 0

    @property
    def ledger(self) -> LedgerFile:
        return begun(self.ledger_class(self.directory / "server.ledger", "clients"))

    def run(self, *, cut: tuple[str, int] | None = None, rounds: int = 6) -> Federation:
        """Start, or go on with, ``rounds`` rounds.

        Args:
            cut: ("before" | "after", round): the power goes off in that round, after the release
                and before or after its checkpoint.
        """
        made = federation(self.directory, 3, f"federation.rounds={rounds}", client_plan=self.plan)
        made.server_ledger = self.ledger

        def evaluate(state: State) -> Evaluation:
            self.releases += 1
            if cut == ("before", self.clients.asked[-1][0]):
                raise PowerCutError
            return Evaluation(accuracy=0, macro_f1=0, loss=0)

        def on_round(record: RoundRecord) -> None:
            if cut == ("after", record.round):
                raise PowerCutError

        made.evaluate, made.on_round = evaluate, on_round
        grid = self.clients.grid()
        run_rounds(grid, made, grid)
        return made


Cuts = Sequence[tuple[str, int]]


def check_that_the_budget_holds(server: Server, cuts: Cuts) -> Federation:
    """However the run is cut off, all its releases together stay in the budget; then it stops."""
    for cut in cuts:
        with pytest.raises(PowerCutError):
            server.run(cut=cut)
    try:
        made = server.run()
    except FedliteError as error:
        raise AssertionError("the results are lost") from error
    spent = server.plan.epsilon_after(server.releases)
    assert spent <= server.plan.epsilon, f"{server.releases} releases"
    assert len(server.clients.asked) == 3 * server.releases, "trained for no release"
    assert "would exceed the budget" in made.stopped
    assert made.stopped.startswith(f"before round {len(made.history) + 1}: ")
    assert [record.round for record in made.history] == list(range(1, len(made.history) + 1))
    assert made.history[-1].client_level_epsilon == pytest.approx(spent)
    assert all(value.isfinite().all() for value in made.result.values())
    assert any(not torch.equal(made.result[name], value) for name, value in STUDENT.items())
    return made


class ForgetsAcrossRuns(LedgerFile):
    """Planted: the ledger of a process, gone with it."""

    def __init__(self, path: Path, data_set: str) -> None:
        number = len(list(path.parent.glob("forgotten-*.ledger")))
        super().__init__(path.parent / f"forgotten-{number}.ledger", data_set)


class ChargesEachRoundOnce(LedgerFile):
    """Planted: a round that was cut off and repeated with fresh noise is taken for the same."""

    def charge(self, *args: Any, **options: Any) -> Spending:
        return super().charge(*args, **{**options, "replay": True})


class LooksTooLate(LedgerFile):
    """Planted: stops once the budget is overspent."""

    def charge(self, *args: Any, budget: float, **options: Any) -> Spending:
        spent = self.epsilon(options["delta"], options["accountant"])
        enough = math.inf if spent <= budget else budget
        return super().charge(*args, budget=enough, **options)


class NeverRefuses(LedgerFile):
    """Planted: writes everything down, and lets everything pass."""

    def charge(self, *args: Any, budget: float, **options: Any) -> Spending:
        return super().charge(*args, budget=math.inf, **options)


class BreaksOff(LedgerFile):
    """Planted: an error instead of an answer, and the run is lost with it."""

    def charge(self, *args: Any, **options: Any) -> Spending:
        spending = super().charge(*args, **options)
        if not spending.accepted:
            raise FedliteError(spending.reason)
        return spending


CUTS: dict[str, Cuts] = {
    "never cut off": [],
    "cut off before a checkpoint": [("before", 2)],
    "cut off after a checkpoint": [("after", 2)],
    "cut off twice in one round": [("before", 2), ("before", 2)],
    "cut off again and again": [("before", 1), ("after", 1), ("before", 2)],
}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_all_releases_together_stay_in_the_budget(cuts: Cuts, tmp_path: Path) -> None:
    server = Server(tmp_path, plan_for(4))
    made = check_that_the_budget_holds(server, cuts)
    assert server.releases == len(server.ledger.entries()) == 4
    repeated = sum(when == "before" for when, _ in cuts)
    assert len(made.history) == 4 - repeated


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (ForgetsAcrossRuns, "cut off after a checkpoint"),
        (ForgetsAcrossRuns, "cut off before a checkpoint"),
        (ChargesEachRoundOnce, "cut off before a checkpoint"),
        (LooksTooLate, "never cut off"),
        (NeverRefuses, "never cut off"),
        (BreaksOff, "never cut off"),
    ],
)
def test_planted_ledgers_that_overspend_are_caught(
    planted: type[LedgerFile], name: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        check_that_the_budget_holds(Server(tmp_path, plan_for(4), planted), CUTS[name])


def test_a_seeded_round_that_is_repeated_is_the_same_release_and_charged_once(
    tmp_path: Path,
) -> None:
    whole = Server(tmp_path / "whole", plan_for(4, "deterministic")).run()
    broken = Server(tmp_path / "broken", plan_for(4, "deterministic"))
    with pytest.raises(PowerCutError):
        broken.run(cut=("before", 2))
    made = broken.run()
    assert len(broken.ledger.entries()) == len(made.history) == 4
    assert all(torch.equal(made.result[name], value) for name, value in whole.result.items())


def test_a_stopped_run_stays_stopped(tmp_path: Path) -> None:
    server = Server(tmp_path, plan_for(2))
    first, second = server.run(), server.run()
    assert second.stopped == first.stopped != ""
    assert server.releases == len(server.ledger.entries()) == 2
    assert all(torch.equal(second.result[name], value) for name, value in first.result.items())


def test_a_budget_for_all_rounds_is_enough_and_says_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, plan_for(5))
    made = server.run(rounds=5)
    assert made.stopped == ""
    assert len(made.history) == 5
    assert made.history[-1].client_level_epsilon == pytest.approx(server.plan.epsilon)


def test_the_ledger_holds_the_charged_multiplier_once_a_round_where_the_clip_adapts(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, plan_for(4, adaptive=True, bit_noise=0.8))
    made = check_that_the_budget_holds(server, [("after", 2)])
    assert {entry.segment for entry in server.ledger.entries()} == {server.plan.segment}
    clips = [record.clip for record in made.history]
    assert clips[0] == server.plan.clip
    assert len(set(clips)) == 4, "the clip goes on from the checkpoint"


@pytest.mark.slow
def test_a_real_run_that_exhausts_its_budget_ends_well_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["privacy=client", "privacy.client.noise_multiplier=1", "privacy.client.epsilon=4"]
    options += ["privacy.client.delta=0.01", "student=mlp"]
    command = ["simulate", *TINY, *options, f"run.dir={folder}"]
    assert run(command) == 0

    report = json.loads((folder / "report.json").read_text())
    assert report["federation"]["stopped"].startswith("before round 3: epsilon ")
    assert [entry["round"] for entry in report["history"]] == [1, 2]
    (unit,) = report["privacy"]["units"]
    assert unit["unit"] == "client"
    assert unit["epsilon_max"] <= unit["budget"] == 4
    assert unit["rounds_charged"] == 2
    assert "stopped before round 3" in (folder / "report.md").read_text()
    assert (folder / "deploy" / "student.onnx").is_file()

    (ledger_file,) = (folder / "ledgers").glob("*.ledger")
    written = ledger_file.read_bytes()
    assert len(written.splitlines()) == 3  # a header and two charges
    assert run([*command, "run.resume=true"]) == 0
    assert ledger_file.read_bytes() == written
