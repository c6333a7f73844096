"""``fedlite ledger``: what was spent, by client, run and round, without touching anything."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fedlite.cli.main import run
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
from fedlite.privacy.ledger_folder import SERVER_LEDGER
from fedlite.report.words import epsilon_text
from tests.e2e.command import refusal

NO_LIMIT = {"budget": 1e9, "delta": 1e-5, "accountant": "rdp"}
RUN_A, RUN_B = "a" * 32, "b" * 32


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines that ``fedlite ledger`` prints; all of them fit 80 columns."""
    capsys.readouterr()
    assert run(["ledger", *arguments]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


def row(lines: list[str], start: str) -> list[str]:
    """The cells of the one line that starts so."""
    (line,) = [line for line in lines if line.startswith(start)]
    return line.split()


def spend(folder: Path, client_id: int, *charges: Charge, name: str = "digits") -> None:
    data_set = f"{name}-client-{client_id:04d}"
    ledger = LedgerFile(folder / f"{data_set}.ledger", data_set, sync=False)
    create_ledgers([ledger])
    for charge in charges:
        ledger.charge(charge, **NO_LIMIT)


def rounds(run_id: str, count: int, noise: float = 2.0, **share: object) -> list[Charge]:
    return [
        Charge(run_id, number, noise, 0.1, 5, **share)  # type: ignore[arg-type]
        for number in range(1, count + 1)
    ]


def texts(charges: list[Charge], delta: float, *accountants: str) -> list[str]:
    segments = [charge.segment for charge in charges]
    return [epsilon_text(compute_epsilon(segments, delta, name)) for name in accountants]


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *folder.rglob("*")]
    }


def test_a_finished_run_shows_its_clients_and_is_left_as_it_was(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((finished_run / "report.json").read_text())
    (unit,) = report["privacy"]["units"]
    before = everything(finished_run)
    lines = shown(capsys, str(finished_run))
    assert everything(finished_run) == before
    cells = row(lines, "0000-0003 (4)")
    assert cells[2:] == [
        report["run"]["run_id"][:7], "1-3", "3", "3", f"{unit['noise_multiplier']:.3g}",
        f"{unit['sample_rate']:.3g}", "local", epsilon_text(unit["epsilon_rdp_max"]),
        epsilon_text(unit["epsilon_max"]),
    ]  # fmt: skip
    text = " ".join(lines)
    assert "at delta 1e-05" in text
    assert "Server" not in text
    assert "NOT PRIVATE" not in text


def test_a_hundred_clients_that_spent_the_same_are_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for client_id in range(100):
        spend(tmp_path, client_id, *rounds(RUN_A, 5 if client_id == 42 else 3))
    lines = shown(capsys, str(tmp_path))
    assert row(lines, "0042")[3:5] == ["5", "25"]
    assert row(lines, "0000 ... (99)")[5:7] == ["3", "15"]
    assert len(lines) < 12
    assert "client 0042" in " ".join(lines)


def test_runs_on_shared_ledgers_add_up_and_the_largest_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [*rounds(RUN_A, 3), *rounds(RUN_B, 4, noise=1.5)]
    spend(tmp_path, 0, *rounds(RUN_A, 3))
    spend(tmp_path, 1, *both)
    lines = shown(capsys, str(tmp_path), "delta=1e-6")
    first, second = (line.split() for line in lines if RUN_B[:7] in line or line.startswith("0001"))
    assert first[:4] == ["0001", RUN_A[:7], "1-3", "3"]
    assert first[-2:] == texts(both[:3], 1e-6, "rdp", "prv")
    assert second[:3] == [RUN_B[:7], "1-4", "4"]
    assert second[-2:] == texts(both, 1e-6, "rdp", "prv")
    assert row(lines, "0000")[-2:] == texts(both[:3], 1e-6, "rdp", "prv")
    text = " ".join(lines)
    assert text.index("0001 ") < text.index("0000 ")
    assert f"Largest over 2 clients: {texts(both, 1e-6, 'prv')[0]} (prv)" in text
    assert "several runs are filtered by rdp" in text


def test_one_client_charge_by_charge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    charges = rounds(RUN_A, 3, noise=2.0, trust="aggregate", client_noise_multiplier=0.5)
    spend(tmp_path, 7, *charges)
    for name in ("7", "0007", "digits-client-0007"):
        lines = shown(capsys, str(tmp_path), f"client={name}")
        for number in (1, 2, 3):
            cells = next(c for c in map(str.split, lines) if c[:2] == [RUN_A[:7], str(number)])
            spent = texts(charges[:number], 1e-5, "rdp", "prv")
            assert cells[2:] == ["5", "2", "0.5", "0.1", "aggregate", *spent]


def test_aggregate_trust_names_its_assumption_and_the_local_epsilon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charges = rounds(RUN_A, 3, trust="aggregate", client_noise_multiplier=0.5)
    spend(tmp_path, 0, *charges)
    local = compute_epsilon([charge.local_segment for charge in charges], 1e-5, "rdp")
    text = " ".join(shown(capsys, str(tmp_path)))
    assert "assumes that nobody sees single updates" in text
    assert f"largest epsilon is {epsilon_text(local)} (rdp)" in text


def test_the_server_s_ledger_stands_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = rounds(RUN_A, 4, noise=1.0)
    spend(tmp_path, 0, *rounds(RUN_A, 2))
    server = LedgerFile(tmp_path / SERVER_LEDGER, "digits-clients")
    create_ledgers([server])
    for release in releases:
        server.charge(release, **NO_LIMIT)
    lines = shown(capsys, str(tmp_path))
    start = next(number for number, line in enumerate(lines) if line.startswith("Server"))
    clients, apart = lines[:start], lines[start:]
    assert row(clients, "0000")[-2:] == texts(rounds(RUN_A, 2), 1e-5, "rdp", "prv")
    cells = next(c for c in map(str.split, apart) if c[:1] == [RUN_A[:7]])
    assert cells[1:3] == ["1-4", "4"]
    assert cells[-2:] == texts(releases, 1e-3, "rdp", "pld")
    assert "never added" in " ".join(apart)
    assert "Largest over 1 client:" in " ".join(clients)


def test_the_options_of_the_run_decide_delta_accountant_and_place(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished_run, copy)
    shutil.move(copy / "ledgers", tmp_path / "ledgers")
    config = json.loads((copy / "config.json").read_text())
    config["privacy"] |= {
        "delta": 1e-4,
        "accountant": "pld",
        "ledger_dir": str(tmp_path / "ledgers"),
        "randomness": "deterministic",
    }
    (copy / "config.json").write_text(json.dumps(config))
    text = " ".join(shown(capsys, str(copy)))
    assert "at delta 0.0001" in text
    assert "(pld)" in text
    assert "NOT PRIVATE" in text
    config["privacy"]["unit"] = "none"
    (copy / "config.json").write_text(json.dumps(config))
    assert "not private" in refusal(capsys, 1, "ledger", str(copy))


def test_what_is_wrong_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no ledger there" in refusal(capsys, 2, "ledger", str(empty))
    assert "no such directory" in refusal(capsys, 2, "ledger", str(tmp_path / "none"))
    spend(tmp_path, 0, *rounds(RUN_A, 3))
    directory = str(tmp_path)
    assert "client=5" in refusal(capsys, 2, "ledger", directory, "client=5")
    assert "delta=2" in refusal(capsys, 2, "ledger", directory, "delta=2")
    assert "delta=x" in refusal(capsys, 2, "ledger", directory, "delta=x")
    for arguments in ([], [directory, directory], [directory, f"run.dir={directory}"]):
        assert "fedlite ledger DIR" in refusal(capsys, 2, "ledger", *arguments)
    line = refusal(capsys, 2, "ledger", directory, "run=3")
    assert "unknown option 'run=3'; options: client, delta" in line
    assert "unknown flag '--all'" in refusal(capsys, 2, "ledger", "--all")

    good = tmp_path / "digits-client-0000.ledger"
    shutil.copy(good, tmp_path / "digits-client-0001.ledger")
    line = refusal(capsys, 1, "ledger", directory)
    assert "digits-client-0001.ledger: belongs to another data set" in line
    (tmp_path / "digits-client-0001.ledger").unlink()
    raw = good.read_bytes()
    good.write_bytes(raw[:300].replace(b'"round": 1', b'"round": 9') + raw[300:])
    assert re.search(r"line \d is damaged", refusal(capsys, 1, "ledger", directory))
    good.write_bytes(raw + b'{"entry": {"noi')  # a charge cut off in mid-write never counted
    assert row(shown(capsys, directory), "0000")[3] == "3"
