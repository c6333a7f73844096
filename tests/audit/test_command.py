"""`fedlite audit` on a finished run: what it writes, what it says, what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from fedlite.cli.main import run
from fedlite.privacy import steps
from fedlite.privacy.clipping import ClippedSum
from tests.conftest import TINY
from tests.e2e.command import refusal

SMALL = (
    "audit.canaries=200",
    "audit.clients=1",
    "audit.targets=1",
    "audit.shadows=4",
    "audit.compressed=false",
    "audit.inversion_steps=3",
)


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may write to."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def audits(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "audits.json").read_text())
    return found


@pytest.mark.slow
def test_all_parts_reach_files_report_and_tensorboard(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledgers = {path: path.read_bytes() for path in (own_run / "ledgers").glob("*.ledger*")}
    assert run(["audit", f"run.dir={own_run}", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "Canaries, one example" in shown
    assert "holds" in shown

    found = audits(own_run)
    parts = {"canaries", "dirac", "accounting", "membership", "inversion"}
    assert set(found) == {"seconds", *parts}
    assert set(found["seconds"]) == {"dirac", "membership", "inversion"}
    dirac = found["dirac"]["example"]
    assert dirac["steps"] == 3  # one in each of the three rounds
    assert dirac["passed"] is True
    assert set(found["membership"]["attacks"]) == {"student", "control"}
    assert set(found["inversion"]["cosine"]) == {"plain", "clipped", "noised", "noise_alone"}

    names = {path.name for path in (own_run / "pictures").glob("audit_*.png")}
    assert names == {"audit_dirac.png", "audit_membership.png", "audit_inversion.png"}
    report = json.loads((own_run / "report.json").read_text())
    assert report["audits"] == found
    text = (own_run / "report.md").read_text()
    assert "| Canaries, one example |" in text
    assert "| Canaries in the student, one example | noise |" in text
    assert "Attacked: Canaries in the student: cnn, the run's own student" in text
    assert all(f"(pictures/{name})" in text for name in names)
    assert report["privacy"]["units"][0]["audited_epsilon"] == dirac["lower_bound"]
    card = (own_run / "deploy" / "MODEL_CARD.md").read_text()
    assert "cnn, the run's own student" in card
    assert "| What the audit found | nothing refutes the claim |" in card

    events = EventAccumulator(str(own_run), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert "6_pictures/audit_inversion" in tags["images"]
    assert "7_audits/dirac/example/lower_bound" in tags["scalars"]
    assert "7_audits/membership/attacks/student/auc" in tags["scalars"]
    assert {path: path.read_bytes() for path in ledgers} == ledgers  # audits are not charged


def test_parts_are_chosen_each_time_and_earlier_results_stay(own_run: Path) -> None:
    assert run(["audit", f"run.dir={own_run}", *SMALL, "audit.parts=[dirac]"]) == 0
    first = audits(own_run)
    assert run(["audit", f"run.dir={own_run}", *SMALL, "audit.parts=[inversion]"]) == 0
    second = audits(own_run)
    assert "inversion" not in first
    assert second["dirac"] == first["dirac"]
    assert "audit.parts" not in (own_run / "overrides.json").read_text()


def test_a_refuted_claim_is_said_in_red_and_fails_with_all_results_kept(
    own_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_noise(total: ClippedSum, *_: object) -> tuple[Tensor, ...]:
        return total.value

    monkeypatch.setattr(steps, "add_noise", no_noise)  # at a claim of 8
    monkeypatch.setenv("FORCE_COLOR", "1")
    options = (*SMALL, "audit.parts=[dirac]")
    assert run(["audit", f"run.dir={own_run}", *options]) == 1
    printed = capsys.readouterr()
    assert "\x1b[1;31mAUDIT FAILED" in printed.out
    (line,) = printed.err.splitlines()[-1:]
    assert "the privacy claim of this run does not hold" in line
    assert audits(own_run)["dirac"]["example"]["passed"] is False
    card = (own_run / "deploy" / "MODEL_CARD.md").read_text()
    assert "| What the audit attacked | a one-hot layer" in card
    assert "| What the audit found | refuted by" in card
    assert "the check of noise" in card


@pytest.fixture(scope="module")
def client_run(shared_run: Callable[..., Path]) -> Path:
    """A run that protects whole clients."""
    return shared_run("client", "privacy=client", "federation.num_clients=10", "student=mlp")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["client", "aggregate", "unprivate"])
def test_every_unit_and_trust_can_be_audited(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    finished: Path = request.getfixturevalue(f"{kind}_run")
    folder = shutil.copytree(finished, tmp_path / "run")
    assert run(["audit", f"run.dir={folder}", *SMALL]) == 0
    found = audits(folder)
    assert set(found["dirac"]) == {"client" if kind == "client" else "example"}
    private = kind != "unprivate"
    assert ("control" in found["membership"]["attacks"]) is private
    assert ("noised" in found["inversion"]["cosine"]) is private
    claims = [record["claimed_epsilon"] for record in found["dirac"].values()]
    assert (claims == [None]) is not private
    if kind == "client":  # nothing is claimed for one example of a client
        assert found["membership"]["claimed_epsilon"] is None


def test_no_run_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, 2, "audit", f"run.dir={tmp_path}")
    assert "no run there" in line
    assert "give the run directory" in refusal(capsys, 2, "audit")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("audit.parts=[dirac,guess]", "audit.parts=[dirac,guess]: must hold one or more of dirac"),
        ("audit.parts=[]", "audit.parts=[]: must hold one or more of dirac"),
        ("audit.shadows=1", "audit.shadows=1: must be >= 4"),
        ("audit.targets=0", "audit.targets=0: must be >= 1"),
        ("audit.canaries=1000000", "audit.canaries=1000000: must be >= 20 and <= 5000"),
        ("audit.clients=100", "leave fewer than 20 candidates for each"),
    ],
)
def test_bad_options(
    own_run: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    parts = () if option.startswith("audit.parts") else ("audit.parts=[membership]",)
    assert said in refusal(capsys, 2, "audit", f"run.dir={own_run}", *parts, option)
    assert not (own_run / "audits.json").exists()


def test_a_run_that_is_not_finished(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(["teacher", *TINY, f"run.dir={folder}"]) == 0
    line = refusal(capsys, 2, "audit", f"run.dir={folder}")
    assert "has not run there" in line
