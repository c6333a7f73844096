"""The options of classes of clients, each with a student of its own."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt

from fedlite.base.errors import UsageError
from fedlite.base.options import Doc, Options

KEY = "federation.classes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # it names a folder


@dataclass(frozen=True)
class StudentClass(Options):
    """Clients that train a student of their own (docs/classes.md). Every value is public."""

    student: Annotated[
        str, Doc("as student= takes it: a name of conf/student or a FILE.yaml; '': the run's own")
    ] = ""
    kwargs: Annotated[dict[str, Any], Doc("as student.kwargs")] = field(default_factory=dict)
    share: Annotated[float, Gt(0), Doc("of the clients, relative to the other classes")] = 1.0
    clients: Annotated[
        list[str], Doc("instead of shares: numbers of clients, and ranges such as 0-49")
    ] = field(default_factory=list)
    max_bytes: Annotated[
        int | None, Ge(1), Doc("of the student's file as it ships; checked before training")
    ] = None


def check_classes(classes: Mapping[str, StudentClass]) -> None:
    """Refuse classes that cannot be, whatever the number of clients.

    Raises:
        UsageError: names the class and what would be right.
    """
    for name in classes:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{KEY}.{name}: up to 40 letters, digits, '_' and '-', for it names a folder"
            )
    if len(classes) == 1:
        raise UsageError(
            f"{KEY}.{next(iter(classes))}: one class is no division; give two or more, or"
            " student=NAME without classes"
        )
    listed = [name for name, one in classes.items() if one.clients]
    if listed and len(listed) < len(classes):
        other = next(name for name in classes if name not in listed)
        raise UsageError(
            f"{KEY}.{other}.clients: missing, {KEY}.{listed[0]}.clients is given; give them for"
            " every class or for none (then shares divide the clients)"
        )
    for name in listed:
        list(listed_ranges(name, classes[name]))


def listed_ranges(name: str, one: StudentClass) -> Iterator[tuple[int, int]]:
    """First and last client of everything that a class lists.

    Raises:
        UsageError: what is no number and no range.
    """
    for text in one.clients:
        if not (found := re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)):
            raise UsageError(
                f"{KEY}.{name}.clients: {text!r}: give numbers of clients and ranges such as 0-49"
            )
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise UsageError(f"{KEY}.{name}.clients: {text!r} is empty; give {last}-{first}")
        yield first, last
