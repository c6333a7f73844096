"""``rounds.csv``: one row for each finished round, for a spreadsheet or a plot of one's own."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from fedlite.base.files import write_whole
from fedlite.base.records import RoundRecord
from fedlite.report.write import summed_up

FILE = "rounds.csv"
PARTS = ("train", "aggregate", "evaluate", "checkpoint", "total")  # of a round's seconds
COLUMNS = (
    "round",
    "evaluated_on",
    "accuracy",
    "macro_f1",
    "loss",
    "epsilon_max",
    "epsilon_mean",
    "epsilon_p95",
    "client_level_epsilon",
    "clip",
    "clients_trained",
    "clients_refused",
    "clients_failed",
    "released",
    "bytes_down",
    "bytes_up",
    "teacher_bytes",
    *(f"seconds_{part}" for part in PARTS),
    "simulated_clock_seconds",
    "simulated_joules",
)


class RoundsCsv:
    """The file while the rounds go on: whole after each of them, whatever broke off before.

    Args:
        path: made anew, with a row for each round of ``history``; :meth:`add` adds the next.
        evaluated_on: what accuracies are measured on, ``test`` or ``holdout``.
    """

    def __init__(self, path: Path, history: Sequence[RoundRecord], evaluated_on: str) -> None:
        self._path, self._evaluated_on = path, evaluated_on
        rows = [",".join(COLUMNS) + "\n", *map(self._row, history)]
        write_whole(path, "".join(rows))

    def add(self, record: RoundRecord) -> None:
        """Write a finished round."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._row(record))

    def _row(self, record: RoundRecord) -> str:
        found, spent = record.evaluation, record.epsilons
        values: dict[str, object] = {
            "round": record.round,
            "client_level_epsilon": record.client_level_epsilon,
            "clip": record.clip,
            "clients_trained": record.clients_trained,
            "clients_refused": record.clients_refused,
            "clients_failed": record.clients_failed,
            "released": record.released,
            "bytes_down": record.bytes_down,
            "bytes_up": record.bytes_up,
            "teacher_bytes": record.teacher_bytes,
            **{f"seconds_{part}": record.seconds.get(part) for part in PARTS},
            **{f"simulated_{key}": value for key, value in record.simulated.items()},
        }
        if found is not None:
            values["evaluated_on"] = self._evaluated_on
            values |= {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "loss": found.loss}
        if spent:
            values |= {f"epsilon_{key}": value for key, value in summed_up(spent).items()}
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(values.get(key) for key in COLUMNS)
        return line.getvalue()
