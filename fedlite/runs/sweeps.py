"""What a job of a sweep was given that its siblings were not, and its name in TensorBoard."""

import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fedlite.runs.directory import OVERRIDES_FILE, load_overrides
from fedlite.runs.literal import key_of

MULTIRUN_FILE = "multirun.yaml"  # written by Hydra before the first job
MOST_CHARACTERS = 60


def swept_values(run_dir: Path) -> dict[str, str]:
    """The options that the sweep around a job varies, with the job's values; else none.

    Told by what Hydra wrote into the sweep's directory, so that it is the same whichever command
    goes on with the job.
    """
    sweep_file = run_dir.parent / MULTIRUN_FILE
    if not sweep_file.is_file() or not (run_dir / OVERRIDES_FILE).is_file():
        return {}
    typed = OmegaConf.select(OmegaConf.load(sweep_file), "hydra.overrides.task") or []
    parsed = OverridesParser.create().parse_overrides([str(text) for text in typed])
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
    pairs = [(key_of(text), text.partition("=")[2]) for text in load_overrides(run_dir)]
    return {key: value for key, value in pairs if key in swept}


def board_folder(run_dir: Path, swept: dict[str, str]) -> Path:
    """Where a run's TensorBoard events lie: a folder that says its ``swept`` options, if it has
    any, because TensorBoard names runs by their folders. Runs from before go on where they are."""
    if not swept or any(run_dir.glob("events.out.tfevents.*")):
        return run_dir
    label = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in swept.items())
    return run_dir / re.sub(r"[^\w.,=+-]", "_", label)[:MOST_CHARACTERS].strip(".")
