"""fedlite ledger: what was spent, by client, run and round; begins a device's.

usage: fedlite ledger DIR [client=N] [delta=D]
       fedlite ledger init policy=FILE [ledger-dir=DIR]

  DIR       a run directory, or a directory of ledgers (privacy.ledger_dir)
  client=N  that client charge by charge, by its number or data set id
  delta=D   default: that of the run; 1e-5 where DIR is not one of a run

Epsilon is that of the whole ledger so far, by RDP and by a tight accountant.
Clients that spent the same share a row. The server's ledger of client-level
releases stands apart: another unit of privacy, never added to the clients'.
Only reads: works on a read-only disk and while a run goes on.

init begins the ledger of new data, once, on the device that owns them. Without
it the device trains on nothing, and one that was begun is never replaced.

  policy, ledger-dir  as in the device's node config (docs/device-policy.md)
  data_set=ID         instead of policy, with ledger-dir: for a simulated client
                      that keeps its ledger itself
"""

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.cli.parse import Arguments

INIT = "init"


def run(arguments: Arguments) -> int:
    """Print what the ledgers of a directory hold, or begin one."""
    from rich.console import Console

    from fedlite.report.ledgers import show_ledgers

    arguments.refuse_flags()
    if arguments.words[:1] == [INIT]:
        return _begin(arguments)
    taken = arguments.take("client", "delta")
    directory = arguments.need_directory()
    arguments.refuse_options(("client", "delta"))
    try:
        delta = float(taken["delta"]) if "delta" in taken else None
    except ValueError as error:
        raise UsageError(f"delta={taken['delta']}: is not a number") from error
    show_ledgers(directory, Console(), client=taken.get("client"), delta=delta)
    return 0


def _begin(arguments: Arguments) -> int:
    from fedlite.federation.device import LEDGER_DIR, POLICY, Device
    from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
    from fedlite.privacy.policy import is_data_set_id

    known = (POLICY, LEDGER_DIR, "data_set")
    given = arguments.take(*known)
    arguments.refuse_options(known)
    if len(arguments.words) > 1:
        raise UsageError(f"fedlite ledger init: what is '{arguments.words[1]}'? {USAGE}")
    if POLICY in given and "data_set" not in given:
        device = Device.of(given)
        assert device is not None  # it has a policy
        ledger = device.ledger
    elif set(given) == {LEDGER_DIR, "data_set"}:
        data_set = given["data_set"]
        if not is_data_set_id(data_set):
            raise UsageError(f"data_set={data_set}: up to 100 of letters, digits, '.', '_', '-'")
        ledger = LedgerFile(user_path(given[LEDGER_DIR]) / f"{data_set}.ledger", data_set)
    else:
        raise UsageError(f"fedlite ledger init: {USAGE}")
    create_ledgers([ledger])
    print(f"{ledger.path}: the ledger of {ledger.data_set}, nothing spent; keep it with the data")
    return 0


USAGE = "give policy=FILE [ledger-dir=DIR], or data_set=ID ledger-dir=DIR"
