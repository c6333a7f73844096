"""What a job of a sweep was given that its siblings were not, and its name in TensorBoard."""

import re
from collections.abc import Sequence
from pathlib import Path

from fedlite.base.files import read_json, write_json
from fedlite.runs.directory import OVERRIDES_FILE, load_overrides
from fedlite.runs.literal import key_of

SWEPT_FILE = "swept.json"  # in a sweep's directory: the options that its jobs vary
MOST_CHARACTERS = 60


def write_swept(sweep_dir: Path, options: Sequence[str]) -> None:
    """Keep which options a sweep varies, before its first job."""
    sweep_dir.mkdir(parents=True, exist_ok=True)
    write_json(sweep_dir / SWEPT_FILE, list(options))


def swept_values(run_dir: Path) -> dict[str, str]:
    """The options that the sweep around a job varies, with the job's values; else none.

    Told by what lies in the sweep's directory, so that it is the same whichever command goes on
    with the job.
    """
    kept = run_dir.parent / SWEPT_FILE
    if not kept.is_file() or not (run_dir / OVERRIDES_FILE).is_file():
        return {}
    swept = set(read_json(kept))
    pairs = [(key_of(text), text.partition("=")[2]) for text in load_overrides(run_dir)]
    return {key: value for key, value in pairs if key in swept}


def board_folder(run_dir: Path, swept: dict[str, str]) -> Path:
    """Where a run's TensorBoard events lie: a folder that says its ``swept`` options, if it has
    any, because TensorBoard names runs by their folders. Runs from before go on where they are."""
    if not swept or any(run_dir.glob("events.out.tfevents.*")):
        return run_dir
    label = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in swept.items())
    return run_dir / re.sub(r"[^\w.,=+-]", "_", label)[:MOST_CHARACTERS].strip(".")
