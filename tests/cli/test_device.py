"""``fedlite device``: the owner's check of policy and examples, before any server asks."""

from pathlib import Path

import pytest

from fedlite.cli.main import run
from tests.e2e.command import refusal
from tests.privacy.ward import DATA, RULES, patients, write_examples


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(RULES + DATA)
    write_examples(tmp_path / "own.npz", *patients(12))
    return tmp_path


def test_it_says_what_the_policy_allows_and_what_there_is(
    ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(ward.iterdir())
    assert run(["device", str(ward)]) == 0
    rules, examples = capsys.readouterr().out.splitlines()
    assert rules.endswith(
        "policy.yaml: ward-7: at most epsilon 50 at delta 1e-05; units: example; trust: local"
    )
    assert examples == f"{ward / 'own.npz'}: 12 examples to train with"
    assert sorted(ward.iterdir()) == before


def test_it_says_what_is_left_out(ward: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, labels = patients(12)
    inputs[3, 0] = float("nan")
    write_examples(ward / "own.npz", inputs, labels)
    assert run(["device", str(ward)]) == 0
    assert "1 of 12 examples are left out" in capsys.readouterr().out


def test_a_delta_that_is_too_large_for_so_many_is_one_line_here(
    ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ward / "policy.yaml").write_text(f"{RULES}max_delta: 0.1\n{DATA}")
    line = refusal(capsys, 2, "device", str(ward))
    assert f"policy {ward / 'policy.yaml'}: max_delta: 0.1 must be below 1/n of the 12" in line


def test_what_cannot_be_used_is_one_line(ward: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give one directory" in refusal(capsys, 2, "device")
    assert "cannot be read" in refusal(capsys, 2, "device", str(ward), "policy=none.yaml")
    assert "unknown option 'client=3'" in refusal(capsys, 2, "device", str(ward), "client=3")
    assert "data.file: the node config's data" in refusal(
        capsys, 2, "device", str(ward), "data=other.npz"
    )
    (ward / "rules.yaml").write_text(RULES + DATA.replace("  file: own.npz\n", ""))
    assert "data.file: missing" in refusal(capsys, 2, "device", str(ward), "policy=rules.yaml")
    line = refusal(capsys, 2, "device", str(ward), "policy=rules.yaml", "data=other.npz")
    assert "other.npz: no such file" in line
    (ward / "rules.yaml").write_text(RULES)
    line = refusal(capsys, 2, "device", str(ward), "policy=rules.yaml", "data=own.npz")
    assert "rules.yaml: data: missing" in line
