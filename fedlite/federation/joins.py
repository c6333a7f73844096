"""What joins made of the students of all classes, on disk, for the rounds that go on from it.

One file, replaced as a whole by every join: a run that is broken off between two classes' rounds
finds what each of them went on from. Ledgers are no part of it: a join charges none.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from fedlite.base.records import JoinRecord
from fedlite.base.tensors import load_tensors, save_tensors
from fedlite.federation.messages import State


@dataclass(frozen=True)
class JoinedStudent:
    """A class's student after a join, which its rounds after ``round`` go on from."""

    round: int
    state: State


@dataclass(frozen=True)
class Joins:
    """All joins after ``round`` finished rounds.

    ``students`` are by class; a class that went on with its own student has none. ``history`` tells
    of every join and class.
    """

    round: int = 0
    students: dict[str, JoinedStudent] = field(default_factory=dict)
    history: list[JoinRecord] = field(default_factory=list)


def save_joins(path: Path, joins: Joins) -> None:
    """Write the joins so that the file is whole or the one before."""
    save_tensors(
        path,
        {
            "round": joins.round,
            "students": {name: vars(one) for name, one in joins.students.items()},
            "history": [asdict(one) for one in joins.history],
        },
    )


def load_joins(path: Path) -> Joins:
    """Read what :func:`save_joins` wrote; no joins where there is no file.

    Raises:
        FedliteError: a damaged file.
    """
    if not path.exists():
        return Joins()
    raw = load_tensors(path)
    return Joins(
        raw["round"],
        {name: JoinedStudent(**one) for name, one in raw["students"].items()},
        [JoinRecord(**one) for one in raw["history"]],
    )
