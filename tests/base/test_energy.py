"""Joules: counters are read as the kernel writes them, and an estimate is one."""

from pathlib import Path

import pytest

from fedlite.base import energy
from fedlite.base.energy import estimated_joules, measured_joules, read_joules


def package(root: Path, name: str, microjoules: int, full: int = 1_000_000_000) -> Path:
    zone = root / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{full}\n")
    return zone


def test_packages_count_and_what_is_within_them_does_not(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 2_000_000)
    (package(tmp_path, "intel-rapl:0:0", 9_000_000) / "name").write_text("core\n")
    assert read_joules(tmp_path) == {"intel-rapl:0": (2.0, 1000.0)}


def test_without_counters_nothing_is_measured_and_nothing_called(tmp_path: Path) -> None:
    assert measured_joules(lambda: pytest.fail("called"), tmp_path) is None
    zone = package(tmp_path, "intel-rapl:0", 1)
    (zone / "energy_uj").unlink()  # as where only root may read it
    assert read_joules(tmp_path) is None


@pytest.mark.parametrize("start", [5_000_000, 999_000_000], ids=["plain", "wraps"])
def test_joules_are_of_one_call_and_a_counter_may_start_anew(
    start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "LEAST_SECONDS", 0.001)
    zone, calls = package(tmp_path, "intel-rapl:0", start), 0

    def call() -> None:
        nonlocal calls
        calls += 1
        (zone / "energy_uj").write_text(str((start + calls * 2000) % 1_000_000_000))

    assert measured_joules(call, tmp_path) == pytest.approx(0.002)


def test_smaller_numbers_cost_less_and_small_weights_alone_do_not() -> None:
    fp32, fp16, int8 = (estimated_joules(1e6, one) for one in ("fp32", "fp16", "int8"))
    assert fp32 == pytest.approx(4.6e-6)
    assert int8 < fp16 < fp32
    assert estimated_joules(1e6, "int4 weights") == fp32
