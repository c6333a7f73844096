"""Going on with a run: the options it was started with, and new ones that win."""

from collections.abc import Sequence
from pathlib import Path

from fedlite.runs.conf import conf_dir, groups
from fedlite.runs.directory import OVERRIDES_FILE, load_overrides
from fedlite.runs.experiment import EXPERIMENT, OF_A_FILE, experiment_overrides
from fedlite.runs.literal import key_of
from fedlite.runs.typed import own_file, unquoted


def holds_run(run_dir: Path) -> bool:
    """Whether a run was started in this directory."""
    return (run_dir / OVERRIDES_FILE).is_file()


def with_saved(run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The saved overrides of a run, then those that are given now, which win.

    A group given now replaces every option of that group that was given before, by itself or in an
    experiment. An experiment given now replaces the one of before, and whatever else it sets.

    Raises:
        UsageError: the file of an experiment cannot be read.
    """
    return merged(load_overrides(run_dir), overrides)


def merged(saved: Sequence[str], given: Sequence[str]) -> list[str]:
    """Options of before, then those that are ``given``, which win as in :func:`with_saved`.

    Raises:
        UsageError: the file of an experiment cannot be read.
    """
    return [*_left_over(saved, given), *given]


def _left_over(saved: Sequence[str], given: Sequence[str]) -> list[str]:
    """Those of ``saved`` that ``given`` does not replace."""
    said = [one for text in given for one in _spelt_out(text)]
    keys = {key_of(text) for text in [*given, *said]}
    chosen = keys & set(groups()) - {EXPERIMENT}
    if EXPERIMENT in keys:
        saved = [text for text in saved if not text.startswith(OF_A_FILE)]
    elif chosen:
        typed = {key_of(text) for text in saved}
        saved = [
            one
            for text in saved
            for one in _spelt_out(text)
            if one == text or key_of(one) not in typed
        ]
    return [
        text
        for text in saved
        if key_of(text) not in keys and key_of(text).split(".")[0] not in chosen
    ]


def _spelt_out(text: str) -> list[str]:
    """An experiment as the options that it sets, each once; other options as they are."""
    path = _experiment(text)
    if path is None:
        return [text]
    inner = [one for text in experiment_overrides(path) for one in _spelt_out(text)]
    return list({key_of(one): one for one in inner}.values())


def _experiment(text: str) -> Path | None:
    """The file of an experiment; None of what is none, and where it lies in a folder of the
    user's own."""
    if key_of(text) != EXPERIMENT:
        return None
    named = conf_dir() / EXPERIMENT / f"{unquoted(text.partition('=')[2])}.yaml"
    return own_file(text) or (named if named.is_file() else None)
