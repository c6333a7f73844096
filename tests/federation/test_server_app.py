"""The ServerApp: hands Flower's grid to the rounds, and the clients' states to the checkpoint."""

from pathlib import Path

import torch
from flwr.app import Context, RecordDict

from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.client_states import ClientStates
from fedlite.federation.server_app import make_server_app, open_server_ledger
from tests.federation.scripted import STUDENT, ScriptedClients, add, federation


def serve(clients: ScriptedClients, directory: Path, rounds: int, *, keeps: bool) -> None:
    """Run the app as an engine does."""
    made, grid = federation(directory, 2, f"federation.rounds={rounds}"), clients.grid()
    kept: ClientStates | None = grid if keeps else None
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    make_server_app(made, kept)(grid, context)
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 2 * rounds)
    assert [record.round for record in made.history] == list(range(1, rounds + 1))


def test_what_simulated_clients_keep_goes_into_the_checkpoint_and_comes_back(
    tmp_path: Path,
) -> None:
    serve(ScriptedClients([add(1.0), add(3.0)]), tmp_path, 1, keeps=True)
    assert sorted(load_checkpoint(tmp_path / "checkpoint.pt").contexts) == [2, 3]
    again = ScriptedClients([add(1.0), add(3.0)])
    serve(again, tmp_path, 2, keeps=True)
    assert again.teachers_received == []


def test_what_clients_of_their_own_keep_is_no_part_of_it(tmp_path: Path) -> None:
    serve(ScriptedClients([add(1.0), add(3.0)]), tmp_path, 1, keeps=False)
    assert load_checkpoint(tmp_path / "checkpoint.pt").contexts == {}
    restarted = ScriptedClients([add(1.0), add(3.0)])
    serve(restarted, tmp_path, 2, keeps=False)
    assert restarted.teachers_received == [0, 1], "asked for what they hold, not assumed to"


def test_the_server_s_ledger_is_of_all_clients_of_a_data_set(tmp_path: Path) -> None:
    ledger = open_server_ledger(tmp_path, "digits")
    assert (ledger.path, ledger.data_set) == (tmp_path / "server.ledger", "digits-clients")
