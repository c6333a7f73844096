"""The Flower ServerApp: hands a grid to the rounds."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlite.federation.client_states import ClientStates
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.ledger_folder import SERVER_LEDGER


def open_server_ledger(directory: Path, data_set: str) -> LedgerFile:
    """The client-level ledger: what the releases to the outside have spent of all clients."""
    return LedgerFile(directory / SERVER_LEDGER, f"{data_set}-clients")


def make_server_app(federation: Federation, clients: ClientStates | None = None) -> ServerApp:
    """The ServerApp for one run; its result is left in ``federation``."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_rounds(grid, federation, clients)

    return app
