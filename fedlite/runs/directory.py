"""The run directory: its lock, its options, and which stages are done."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, write_json
from fedlite.base.options import PATH, PATH_OR_NAME, options_of, portable_path
from fedlite.runs.config import Config
from fedlite.runs.facts import Stages

LOG_FILE = "fedlite.log"
OVERRIDES_FILE = "overrides.json"
CONFIG_FILE = "config.json"
STATE_FILE = "state.json"
SWEEP_FILE = "sweep.json"  # in the directory that holds the jobs of a sweep

_NOT_SAVED = ("run.dir", "run.resume", "audit.parts")  # of one command, not of the run


def load_overrides(run_dir: Path) -> list[str]:
    """The option strings a run was started with."""
    return [str(text) for text in read_json(run_dir / OVERRIDES_FILE)]


def run_id_of(run_dir: Path) -> str:
    """The id of the run in a directory."""
    return str(read_json(run_dir / STATE_FILE)["run_id"])


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
    def stage(self, name: str, mark: str) -> Iterator[dict[str, object]]:
        """Run a stage: the facts put into the yielded dictionary are kept once it ends well.

        ``seconds`` are those of the attempt that ended; an interrupted one is not counted.
        """
        facts: dict[str, object] = {}
        started = time.perf_counter()
        yield facts
        facts |= {"fingerprint": mark, "seconds": time.perf_counter() - started}
        self.stages[name] = facts
        self._save()

    def forget(self, *names: str) -> None:
        """Count stages as not done: what they made is about to be replaced."""
        for name in names:
            self.stages.pop(name, None)
        self._save()

    def keep_options(self, config: Config, overrides: list[str]) -> None:
        """Write down the options; a resumed run starts from them."""
        write_json(self.file(OVERRIDES_FILE), _portable(overrides))
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
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FedliteError(f"run.dir={path}: another fedlite process is using it") from error
    except OSError as error:
        raise FedliteError(
            f"run.dir={path}: cannot be written ({error.strerror or error})"
        ) from error
    try:
        run = _load_or_create(path, resume=resume)
        if not run.stages:  # those of a started run are replaced once they are checked
            run.keep_options(config, overrides)
        yield run
    finally:
        lock.release()


def _load_or_create(path: Path, *, resume: bool) -> RunDirectory:
    if not (path / STATE_FILE).is_file():
        run = RunDirectory(path, uuid.uuid4().hex)
        run._save()
        return run
    state = read_json(path / STATE_FILE)
    if state["stages"] and not resume:
        raise UsageError(
            f"run.dir={path}: holds a run already; add run.resume=true to go on with it,"
            " or choose another directory"
        )
    return RunDirectory(path, state["run_id"], state["stages"])


def _portable(overrides: list[str]) -> list[str]:
    """Overrides that mean the same from any working directory, without those of the run itself."""
    marks = {option.key: option.marks for option in options_of(Config)}
    kept = []
    for text in overrides:
        name, _, value = text.partition("=")
        key = name.lstrip("+")
        if key in _NOT_SAVED:
            continue
        value = value.strip("'\"")
        of_option = marks.get(key) or marks.get(key.rpartition(".")[0], ())
        if PATH_OR_NAME in of_option:
            text = f"{name}={portable_path(value)}"
        elif PATH in of_option and value not in ("", "null"):
            text = f"{name}={Path(value).expanduser().absolute()}"
        kept.append(text)
    return kept
