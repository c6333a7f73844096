"""fedlite ledger: what was spent, by client, run and round.

usage: fedlite ledger DIR [client=N] [delta=D]

  DIR       a run directory, or a directory of ledgers (privacy.ledger_dir)
  client=N  that client charge by charge, by its number or data set id
  delta=D   default: that of the run; 1e-5 where DIR is not one of a run

Epsilon is that of the whole ledger so far, by RDP and by a tight accountant.
Clients that spent the same share a row. The server's ledger of client-level
releases stands apart: another unit of privacy, never added to the clients'.
Only reads: works on a read-only disk and while a run goes on.
"""

from fedlite.base.errors import UsageError
from fedlite.cli.parse import Arguments


def run(arguments: Arguments) -> int:
    """Print what the ledgers of a directory hold."""
    from rich.console import Console

    from fedlite.report.ledgers import show_ledgers

    arguments.refuse_flags()
    taken = arguments.take("client", "delta")
    directory = arguments.need_directory()
    arguments.refuse_options(("client", "delta"))
    try:
        delta = float(taken["delta"]) if "delta" in taken else None
    except ValueError as error:
        raise UsageError(f"delta={taken['delta']}: is not a number") from error
    show_ledgers(directory, Console(), client=taken.get("client"), delta=delta)
    return 0
