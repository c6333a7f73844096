"""Rule 13: a server brings a device neither a world nor code, and its messages read nothing."""

import csv
from pathlib import Path
from typing import Any

import pytest

from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.federation import client
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.sealed import FAILED
from fedlite.federation.simulation import SIMULATION, SimulationOptions
from fedlite.models.mlp import MLP
from fedlite.privacy.options import PrivacyOptions
from tests.privacy.planted import caught
from tests.privacy.ward import (
    NOTHING,
    OPTIONS,
    RULES,
    Ward,
    changed,
    check_no_secret,
    patients,
    told,
    write_examples,
)


def hostile_world(folder: Path) -> str:
    """A world that reads the owner's own file of patients: names as labels, a column's maximum."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "records-of-7.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "name", "diagnosis"])
        rows.writerows([31337 + row, f"Zaphod {row}", "hypochondria"] for row in range(12))
    return SimulationOptions(
        dataset=DatasetOptions(
            name="stolen",
            source="huggingface",
            root=str(folder / "records-of-7.csv"),
            keys={"inputs": "age", "labels": "name", "split_test": ""},
            class_names=["a", "b"],
        ),
        partition=PartitionOptions("iid"),
        privacy=PrivacyOptions(),
        num_clients=2,
        seed=0,
        folder=str(folder / "server"),
        ledger_dir=str(folder / "server"),
    ).to_json()


# --- no world of the server's ---------------------------------------------------------------


def check_no_world_is_opened(folder: Path, node: dict[str, Any], rules: str) -> None:
    """A device that a server takes for a simulated client opens nothing and says nothing."""
    opened: list[str] = []
    world = hostile_world(folder)
    ward = Ward(folder, rules=rules, data="", node=node, run={SIMULATION: world})
    if node.get("policy") == "":
        del ward.context.node_config["policy"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "open_simulation", lambda text: opened.append(text) or 1 / 0)
        for message in (ward.hello(), ward.teach(), ward.request(), ward.request(plan=None)):
            reply = ward.ask(message)
            check_no_secret(reply)
            if message.metadata.message_type != "query.hello":
                assert told(reply) == ("error", 2, FAILED), "a device answers for a world"
    assert opened == [], "a device opens the server's world"


@pytest.mark.parametrize("rules", [RULES, NOTHING])
@pytest.mark.parametrize(
    "node",
    [{}, {"simulated": False}, {"simulated": "yes"}, {"simulated": 1}, {"policy": ""}],
    ids=str,
)
def test_a_node_that_does_not_say_it_is_simulated_opens_no_world(
    node: dict[str, Any], rules: str, tmp_path: Path
) -> None:
    check_no_world_is_opened(tmp_path, node, rules)


def as_it_was(patch: pytest.MonkeyPatch) -> None:
    """Planted: a node without data of its own holds what the server's configuration describes."""
    real = client.Client._simulated.__func__  # type: ignore[attr-defined]

    def simulated(cls: Any, device: Any, context: Any) -> Any:
        context.node_config["simulated"] = True
        return real(cls, device, context)

    patch.setattr(client.Client, "_simulated", classmethod(simulated))


def test_a_planted_world_of_the_server_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_it_was(monkeypatch)
    with caught("a device opens the server's world"):
        check_no_world_is_opened(tmp_path, {}, RULES)


def test_a_simulated_client_whose_own_policy_allows_nothing_tells_nothing(tmp_path: Path) -> None:
    """Its owner said so, and still no text of the broken world leaves the app."""
    node, run = {"simulated": True}, {SIMULATION: hostile_world(tmp_path)}
    ward = Ward(tmp_path, rules=NOTHING, data="", node=node, run=run)
    for message in (ward.hello(), ward.teach(), ward.request()):
        check_no_secret(ward.ask(message))


# --- no code of the server's ----------------------------------------------------------------

FOREIGN = [
    {"student": {"name": "x", "module": "os.path.join", "kwargs": {}}},
    {"teacher": {"name": "x", "module": "tests.privacy.ward.Ward", "kwargs": {}}},
    {"student": {"name": "x", "module": "fedlite.models_of_mine.Net", "kwargs": {}}},
    {
        "student": {
            "name": "staged",
            "module": "fedlite.models.staged.StagedNet",
            "kwargs": {"stages": [{"block": "tests.privacy.ward.Ward", "width": 4}]},
        }
    },
    {"loss": {"loss": "tests.privacy.ward.Ward", "alpha": 0.5, "temperature": 2.0}},
]


@pytest.mark.parametrize("change", FOREIGN, ids=str)
def test_code_that_a_server_names_is_not_imported(change: dict[str, Any], tmp_path: Path) -> None:
    ward = Ward(tmp_path, run={CLIENT_OPTIONS: changed(OPTIONS, **change)})
    write_examples(tmp_path / "own.npz", *patients(12))
    ward.ask(ward.teach())
    report = ward.ask(ward.request()).content.config_records["report"]
    assert report["status"] == "refused"
    assert "does not let a server name it" in str(report["reason"])
    assert ward.charges() == 0


class OwnNet(MLP):
    """A network of the owner's."""


def test_the_owner_may_allow_classes_of_his_own(tmp_path: Path) -> None:
    path = f"{OwnNet.__module__}.{OwnNet.__qualname__}"
    own = {"student": {"name": "own", "module": path, "kwargs": {"hidden": [4]}}}
    rules = RULES + "models: [fedlite.models.mlp.MLP, tests.privacy.*]\n"
    ward = Ward(tmp_path, rules=rules, run={CLIENT_OPTIONS: changed(OPTIONS, **own)})
    write_examples(tmp_path / "own.npz", *patients(12))
    assert ward.trained()
