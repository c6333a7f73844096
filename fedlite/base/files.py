"""Files that are whole or absent: atomic writes, folders put in place of others, JSON, CSV."""

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlite.base.errors import FedliteError

PACKAGE = Path(__file__).resolve().parent.parent  # the folder of fedlite itself


def user_path(text: str) -> Path:
    """A path as typed, with the user's home for a leading ``~`` that names nothing here."""
    path = Path(text)
    if not text.startswith("~"):
        return path
    if not path.exists():
        with contextlib.suppress(RuntimeError):  # no such user: a name that begins so
            return path.expanduser()
    return path.absolute()


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary sibling, flush it to disk, then rename it onto ``path``.

    Raises:
        FedliteError: the directory or disk cannot be written; ``path`` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FedliteError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # where the folder itself is wrong, that is said above
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write ``data`` atomically; text is UTF-8."""
    raw = data.encode() if isinstance(data, str) else data

    def write(temporary: Path) -> None:
        temporary.write_bytes(raw)

    write_atomically(path, write)


def replace_folder(made: Path, path: Path) -> None:
    """Put the finished folder ``made`` in the place of ``path``, whatever is there.

    Both lie on one file system.

    Raises:
        OSError: it cannot be moved; what was at ``path`` is there still.
    """
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
    ) as aside:
        old = Path(aside) / "old"
        if replaces := path.exists():
            path.rename(old)
        try:
            made.rename(path)
        except BaseException:  # Ctrl-C too
            if replaces:
                old.rename(path)
            raise


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted; hidden ones, and those in hidden folders, are left out."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FedliteError: missing or damaged file.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FedliteError(f"{path}: cannot be read as JSON ({error})") from error


def read_record(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that holds ``keys``.

    Raises:
        FedliteError: missing or damaged file.
    """
    found = read_json(path)
    if not isinstance(found, dict) or set(keys) - set(found):
        raise FedliteError(f"{path}: is damaged (must hold {', '.join(keys)}); restore it")
    return found


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """A CSV file of ``rows``; None takes the ``columns`` of all of them, in their order.

    Raises:
        ValueError: a row has what is no column.
    """
    if columns is None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
