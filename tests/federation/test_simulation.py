"""A simulation: one world for all its clients, whose options decide policy and budget."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fedlite.base.errors import UsageError
from fedlite.federation.simulation import (
    SimulationOptions,
    open_simulation,
    shared_world,
    shared_worlds,
)
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from tests.privacy.world import ClientWorld, begun, simulation_options


@pytest.mark.parametrize(
    "overrides",
    [(), ("privacy=aggregate", "partition=dirichlet"), ("privacy=none", "seed=5")],
)
def test_what_makes_a_world_is_read_back_as_it_was(
    overrides: tuple[str, ...], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    options = simulation_options(tiny_config(*overrides), tmp_path)
    assert SimulationOptions.from_json(options.to_json()) == options


def test_clients_of_a_process_share_one_world_and_prepare_their_examples_once(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    world = ClientWorld(tiny_config("student=mlp"), tmp_path)
    assert world.client(0).workbench is world.client(3).workbench
    assert world.client(2).data is world.client(2).data
    assert world.client(2).data is not world.client(3).data
    assert world.client(2).data.client_id == 2


def test_clients_hold_what_their_run_has_read(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config()
    options, splits = simulation_options(config, tmp_path), splits_of(config)
    with shared_world(options, splits):
        assert open_simulation(options.to_json()).splits is splits
    assert open_simulation(options.to_json()).splits is not splits


def test_workers_are_sent_what_their_run_has_read_where_it_fits_shared_memory(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    options, splits = simulation_options(config, tmp_path), splits_of(config)
    assert shared_worlds() == []
    with shared_world(options, splits):
        ((_, sent),) = shared_worlds()
        assert torch.equal(sent.client(3).inputs, splits.client(3).inputs)
        assert [len(part) for part in (sent.public, sent.public_validation, sent.test)] == [0, 0, 0]
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=splits.nbytes))
        assert shared_worlds() == []


def test_the_run_s_options_are_the_rules_of_clients_without_rules_of_their_own(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("privacy.epsilon=3", "privacy.delta=1e-6", "privacy=both")
    policy = open_simulation(simulation_options(config, tmp_path).to_json()).client_policy(2)
    assert policy.data_set == "digits-client-0002"
    assert (policy.max_epsilon, policy.max_delta, policy.units) == (3.0, 1e-6, ("both",))


def test_a_simulated_client_may_have_a_ledger_of_its_own_which_it_flushes_itself(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    config = tiny_config("student=mlp")
    kept = begun(LedgerFile(own / "digits-client-0000.ledger", "digits-client-0000"))
    alone = ClientWorld(config, tmp_path / "alone", {"ledger-dir": str(own)})
    shared = ClientWorld(config, tmp_path / "shared")
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino) or fsync(fd))
    alone.train(1)
    shared.train(1)
    assert len(kept.entries()) == len(shared.ledger().entries()) == 1
    assert alone.ledger().entries() == []
    assert kept.path.stat().st_ino in flushed
    assert shared.ledger().path.stat().st_ino not in flushed, "the server's machine flushes it"


def test_a_world_that_cannot_be_made_is_one_line(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("max_epsilon: 1\n")
    config = tiny_config(f"privacy.policy={tmp_path / 'policy.yaml'}")
    with pytest.raises(UsageError, match=r"policy\.yaml: data_set: missing"):
        open_simulation(simulation_options(config, tmp_path).to_json())
