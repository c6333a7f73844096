"""The shape of ``report.json``: every key that code reads or writes has its type here."""

from typing import Any

Report = dict[str, Any]
