"""What a run's clients would have to do on their devices."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.federation.plans import Plans
from fedlite.models.build import build_model
from fedlite.models.cost import forward_flops, state_bytes
from fedlite.runs.compose import compose_config
from fedlite.runs.fleet import build_fleet, client_work, device_entries
from tests.tasks import shaped

TASK = shaped((1, 8, 8))


def test_without_classes_there_is_no_fleet() -> None:
    assert build_fleet(compose_config(), Plans(), TASK, [60] * 4) is None


def test_a_visit_is_local_steps_over_nominal_batches() -> None:
    config = compose_config(["student=mlp", "federation.local_steps=4", "privacy.sample_rate=0.25"])
    student = build_model(config.student, TASK, 0)
    teacher = build_model(config.teacher, TASK, 0)
    work = client_work(config, TASK, 60)
    assert work.flops == 4 * 0.25 * 60 * 3 * forward_flops(student, TASK.blank(1))
    assert work.bytes_down == work.bytes_up == state_bytes(student)
    assert work.first_flops == 60 * forward_flops(teacher, TASK.blank(1))
    assert work.first_bytes_down == state_bytes(teacher)


def test_a_fixed_front_end_is_worked_out_once() -> None:
    config = compose_config(["student=scattering", "privacy.sample_rate=1"])
    student = build_model(config.student, TASK, 0)
    whole = forward_flops(student, TASK.blank(1))
    work = client_work(config, TASK, 10)
    assert 0 < work.flops < 10 * whole
    teacher = build_model(config.teacher, TASK, 0)
    front = work.first_flops / 10 - forward_flops(teacher, TASK.blank(1))
    assert front + work.flops / 10 / 3 == whole


def test_every_class_has_its_entry_and_every_client_its_class() -> None:
    config = compose_config(["fleet=mixed", "privacy=none"])
    fleet = build_fleet(config, Plans(), TASK, [60] * 40)
    assert fleet is not None
    entries = device_entries(fleet)
    assert list(entries) == list(config.fleet.classes)
    assert sum(one["clients"] for one in entries.values()) == 40
    assert entries["mcu_bluetooth"]["compute_seconds"] > entries["board"]["compute_seconds"]
    assert all(one["first_seconds"] > one["overhead_seconds"] == 3 for one in entries.values())


@pytest.mark.slow
def test_a_run_reports_what_it_took_on_its_fleet(shared_run: Callable[..., Path]) -> None:
    made = shared_run("fleet", "fleet=phones", "compress=none")
    report = json.loads((made / "report.json").read_text())
    rounds = [entry["simulated"] for entry in report["history"]]
    fleet = report["fleet"]
    assert fleet["seconds"] == rounds[-1]["clock_seconds"] > 0
    assert fleet["joules"] == pytest.approx(sum(one["joules"] for one in rounds))
    assert sum(one["clients"] for one in fleet["classes"].values()) == 4
    text = (made / "report.md").read_text()
    assert "On this fleet the rounds take" in text
    assert (made / "pictures" / "accuracy_by_simulated_time.png").is_file()
