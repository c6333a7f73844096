"""Whose ledgers lie in a directory: the division of the examples that they were begun for.

A simulated client's ledger is named by its number, and under another division the same number holds
other examples, whose spending would not be seen. So a directory of simulated ledgers is bound to
the examples themselves, by a digest of what each client holds, and not to the options that divided
them: neither other files nor other rows under the same name are taken for the same client's.

The file also names every ledger that was begun, so that a missing one is noticed, and says whether
the clients' lie in one store, as all do that begin now, or in files of their own, as they did
before. It alone decides: neither a stray store nor a stray file is ever charged.

The digests are not private: whoever guesses all examples of a client can confirm it by them. They
lie beside the ledgers, on the machine that holds the examples anyway, and go nowhere else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.base.files import read_json, write_json

DIVISION_FILE = "division.json"
IN_FILES, IN_STORE = "fedlite-division-1", "fedlite-division-2"  # formats
NAMED_BEFORE = {"dataset", "partition", "num_clients", "seed"}  # when options were bound


@dataclass(frozen=True)
class Division:
    """``examples``: by data set id, a digest of the examples that it names. ``begun``: the names
    of the ledgers in the directory (files without ``.ledger``, and the store's). ``store``: the
    clients' ledgers lie in one."""

    examples: Mapping[str, str]
    begun: tuple[str, ...] = ()
    store: bool = True

    @property
    def sha256(self) -> str:
        """Of who holds what; which ledgers were begun has no part in it."""
        return hashlib.sha256(json.dumps(self.examples, sort_keys=True).encode()).hexdigest()

    def write(self, directory: Path) -> None:
        """Bind a directory to this division.

        Raises:
            FedliteError: it cannot be written.
        """
        form = IN_STORE if self.store else IN_FILES
        values = {"format": form, "examples": dict(self.examples), "ledgers": list(self.begun)}
        write_json(directory / DIVISION_FILE, values)


def read_division(directory: Path) -> Division | None:
    """The division that a directory is bound to; None where it is bound to none, or by the names
    of options alone, as directories were before.

    Raises:
        FedliteError: a damaged file.
    """
    path = directory / DIVISION_FILE
    if not path.exists():
        return None
    values = read_json(path)
    try:
        if "format" not in values and set(values) >= NAMED_BEFORE:
            return None
        store = {IN_FILES: False, IN_STORE: True}[values["format"]]
        return Division(dict(values["examples"]), tuple(values["ledgers"]), store)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: is no division of ledgers; restore it") from error
