"""The run directory: its lock, its options, and which stages are done."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, read_record, user_path, write_json
from fedlite.base.options import portable_path
from fedlite.runs.config import Config
from fedlite.runs.facts import Stages
from fedlite.runs.literal import CONFIG_DIR, key_of
from fedlite.runs.typed import is_path, may_be_name, unquoted

LOG_FILE = "fedlite.log"
OVERRIDES_FILE = "overrides.json"
CONFIG_FILE = "config.json"
STATE_FILE = "state.json"
SWEEP_FILE = "sweep.json"  # in the directory that holds the jobs of a sweep

STATE = ("run_id", "stages")  # what STATE_FILE holds
_NOT_SAVED = ("run.dir", "run.resume", "audit.parts")  # of one command, not of the run


def load_overrides(run_dir: Path) -> list[str]:
    """The option strings a run was started with.

    Raises:
        FedliteError: missing or damaged file.
    """
    found = read_json(run_dir / OVERRIDES_FILE)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise FedliteError(f"{run_dir / OVERRIDES_FILE}: is damaged (no list of options)")
    return found


def run_id_of(run_dir: Path) -> str:
    """The id of the run in a directory."""
    return str(read_record(run_dir / STATE_FILE, *STATE)["run_id"])


@dataclass
class RunDirectory:
    """Paths and finished stages of one run; every change is on disk before it returns.

    ``stages`` holds what each finished stage wrote down, by name; code reads it as :attr:`facts`.
    """

    path: Path
    run_id: str
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """A path inside the run directory."""
        return self.path / name

    def done(self, stage: str, mark: str) -> bool:
        """Whether ``stage`` finished with this fingerprint."""
        return self.stages.get(stage, {}).get("fingerprint") == mark

    @property
    def facts(self) -> Stages:
        """What the finished stages wrote down; a stage that has not run is absent."""
        return cast(Stages, self.stages)

    def seconds(self, stage: str) -> float:
        """How long a stage took; 0 if it has not run."""
        return float(self.stages.get(stage, {}).get("seconds", 0.0))

    @contextmanager
    def stage(self, name: str, mark: str, seconds: float = 0.0) -> Iterator[dict[str, object]]:
        """Run a stage: the facts put into the yielded dictionary are kept once it ends well.

        ``seconds`` went into it before now. What is kept are those of the attempt that ended; an
        interrupted one is not counted.
        """
        facts: dict[str, object] = {}
        started = time.perf_counter() - seconds
        yield facts
        facts |= {"fingerprint": mark, "seconds": time.perf_counter() - started}
        self.stages[name] = facts
        self._save()

    def forget(self, *names: str) -> None:
        """Count stages as not done: what they made is about to be replaced."""
        for name in names:
            self.stages.pop(name, None)
        self._save()

    def keep_options(self, config: Config, overrides: Sequence[str]) -> None:
        """Write down the options; a resumed run starts from them."""
        write_json(self.file(OVERRIDES_FILE), portable(overrides))
        write_json(self.file(CONFIG_FILE), config.to_plain())

    def _save(self) -> None:
        write_json(self.file(STATE_FILE), {"run_id": self.run_id, "stages": self.stages})


@contextmanager
def open_run(config: Config, overrides: list[str], *, resume: bool) -> Iterator[RunDirectory]:
    """Open the run directory for this process alone; the lock dies with the process.

    Raises:
        UsageError: it holds a run already and ``resume`` is false.
        FedliteError: another process is using it, or it cannot be written.
    """
    path = Path(config.run.dir)
    make_directory(path, fresh=not resume)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FedliteError(f"run.dir={path}: another fedlite process is using it") from error
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        run = _load_or_create(path)
        if not resume:
            refuse_begun(path)  # by another process, in the meantime
        if not run.stages:  # those of a started run are replaced once they are checked
            run.keep_options(config, overrides)
        yield run
    finally:
        lock.release()


def make_directory(path: Path, *, fresh: bool) -> None:
    """Make a run directory where there is none.

    Args:
        fresh: it must hold no run yet.

    Raises:
        UsageError: it holds one.
        FedliteError: it cannot be written.
    """
    if fresh:
        refuse_begun(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error


def refuse_begun(path: Path) -> None:
    """Refuse a directory whose run has begun.

    Raises:
        UsageError: says so.
    """
    if has_begun(path):
        raise UsageError(
            f"run.dir={path}: holds a run already; add run.resume=true to go on with it,"
            " or choose another directory"
        )


def has_begun(path: Path) -> bool:
    """Whether the run in a directory has finished a stage.

    Raises:
        FedliteError: its state is damaged.
    """
    file = path / STATE_FILE
    return file.is_file() and bool(read_record(file, *STATE)["stages"])


def _not_writable(path: Path, error: OSError) -> FedliteError:
    return FedliteError(f"run.dir={path}: cannot be written ({error.strerror or error})")


def _load_or_create(path: Path) -> RunDirectory:
    if not (path / STATE_FILE).is_file():
        run = RunDirectory(path, uuid.uuid4().hex)
        run._save()
        return run
    state = read_record(path / STATE_FILE, *STATE)
    return RunDirectory(path, state["run_id"], state["stages"])


def portable(overrides: Sequence[str]) -> list[str]:
    """Overrides that mean the same from any working directory, without those of the run itself."""
    kept = []
    for text in overrides:
        name, _, value = text.partition("=")
        key = key_of(text)
        if key in _NOT_SAVED:
            continue
        if key == CONFIG_DIR:
            value = str(user_path(value).absolute())
        elif is_path(key) and value not in ("", "null"):
            plain = unquoted(value)
            named = may_be_name(key)
            value = portable_path(plain) if named else str(user_path(plain).absolute())
        kept.append(f"{name}={value}" if value else text)
    return kept
