"""Going on with a run: the options it was started with, and new ones that win."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from fedlite.runs.compose import hydra_errors
from fedlite.runs.directory import OVERRIDES_FILE, load_overrides
from fedlite.runs.literal import key_of


def values_of(overrides: Iterable[str]) -> dict[str, Any]:
    """What override strings say, by option, as Hydra reads them.

    Raises:
        UsageError: one that is no override.
    """
    with hydra_errors():
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: override.value() for override in parsed}


def holds_run(run_dir: Path) -> bool:
    """Whether a run was started in this directory."""
    return (run_dir / OVERRIDES_FILE).is_file()


def with_saved(run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The saved overrides of a run, then those that are given now, which win."""
    given = {key_of(text) for text in overrides}
    saved = [text for text in load_overrides(run_dir) if key_of(text) not in given]
    return [*saved, *overrides]
