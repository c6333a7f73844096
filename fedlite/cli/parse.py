"""The one parser of what a user types: flags, words, and options of the form ``key=value``."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.runs.literal import CONFIG_DIR, CONFIG_NAME, key_of

RUN_DIR, RESUME = "run.dir", "run.resume"
CONFIG_FLAGS = (CONFIG_DIR, CONFIG_NAME)
FLAGS_WITH_VALUE = ("--cfg", *CONFIG_FLAGS)
LAST = "last"  # a word for the latest run
YES = ("true", "yes", "on", "1", "y", "t")


@dataclass
class Arguments:
    """What stands behind a command.

    ``words`` are neither flags nor options: a directory, as a rule. ``options`` keep the form in
    which they were typed.
    """

    command: str
    flags: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def refuse_flags(self, known: Iterable[str] = ()) -> None:
        """Refuse flags that the command does not know.

        Raises:
            UsageError: names the first.
        """
        known = tuple(known)
        unknown = [flag for flag in self.flags if flag.split("=")[0] not in known]
        if unknown:
            has = f"flags: {' '.join(known)}" if known else "it takes options only"
            hint = did_you_mean(unknown[0], known)
            raise UsageError(
                f"fedlite {self.command}: unknown flag '{unknown[0]}'{hint or ';'} {has}"
            )

    def take(self, *names: str) -> dict[str, str]:
        """Take the command's own options out; the rest stays for the run.

        Raises:
            UsageError: one of them has no value, or is given twice.
        """
        taken: dict[str, str] = {}
        for text in [text for text in self.options if key_of(text) in names]:
            self.options.remove(text)
            name, value = key_of(text), text.partition("=")[2]
            if not value:
                raise UsageError(f"{name}=: missing; give {name}=VALUE")
            if name in taken:
                raise UsageError(f"{name}: given twice; give it once")
            taken[name] = value
        return taken

    def refuse_options(self, known: Sequence[str]) -> None:
        """Refuse all options that were not taken.

        Raises:
            UsageError: names the first.
        """
        if self.options:
            hint = did_you_mean(key_of(self.options[0]), known)
            has = f"options: {', '.join(known)}"
            raise UsageError(f"unknown option '{self.options[0]}'{hint or ';'} {has}")

    def directory(self) -> Path | None:
        """The directory that the command is about, as a word or as ``run.dir=DIR``.

        Raises:
            UsageError: more than one.
        """
        given = [text for text in self.options if key_of(text) == RUN_DIR]
        named = [_value_of_directory(text) for text in given]
        if len(self.words) + len(named) > 1:
            raise self._not_one_directory(" ".join([*self.words, *given]))
        for text in given:
            self.options.remove(text)
        both = [*self.words, *named]
        return run_directory(both[0]) if both else None

    def need_directory(self) -> Path:
        """:meth:`directory` of a command that is about one.

        Raises:
            UsageError: more than one, or none.
        """
        found = self.directory()
        if found is None:
            raise self._not_one_directory("")
        return found

    def _not_one_directory(self, found: str) -> UsageError:
        command = f"fedlite {self.command}"
        return UsageError(f"{command}: give one directory, not '{found}': {command} DIR")


def _value_of_directory(text: str) -> str:
    from fedlite.runs.typed import unquoted

    value = unquoted(text.partition("=")[2])
    if not value:
        raise UsageError(f"{RUN_DIR}=: missing; give {RUN_DIR}=DIR")
    return value


def run_directory(text: str) -> Path:
    """The directory that a word means: its path, or of ``last`` the run below ``outputs/`` that was
    started last.

    Raises:
        UsageError: there is no run below ``outputs/``.
    """
    from fedlite.base.files import user_path

    if text != LAST or Path(text).exists():
        return user_path(text)
    files = Path("outputs").rglob("overrides.json")
    newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    if not newest:
        raise UsageError(
            f"{LAST}: no run below {Path('outputs').absolute()}; start one with `fedlite simulate`,"
            " or give the directory of one that lies elsewhere"
        )
    # One that was refused before its first stage is no run to go on with.
    return next(filter(_has_a_stage, (file.parent for file in newest)), newest[0].parent)


def _has_a_stage(run_dir: Path) -> bool:
    try:
        return bool(json.loads((run_dir / "state.json").read_text("utf-8")).get("stages"))
    except (OSError, ValueError, AttributeError):
        return False


def parse(command: str, arguments: Sequence[str]) -> Arguments:
    """Sort the arguments of a command.

    Raises:
        UsageError: an option without a name.
    """
    found, rest = Arguments(command), list(arguments)
    while rest:
        text = rest.pop(0)
        if text.startswith("="):
            raise UsageError(f"fedlite {command}: '{text}' has no name; give key=value")
        if text == "--":  # words alone, whatever they begin with
            found.words += rest
            break
        if text in FLAGS_WITH_VALUE and rest and not rest[0].startswith("-"):
            found.flags.append(f"{text}={rest.pop(0)}")
        elif os.path.exists(text):  # noqa: PTH110 - Path's raises where a name is too long
            found.words.append(text)
        elif text.startswith("-"):
            found.flags.append(text)
        elif "=" in text or (key_of(text) and text.startswith("~") and text[1] != "/"):
            found.options.append(text)
        else:
            found.words.append(text)
    return found


def _refuse_what_is_no_directory(words: Sequence[str]) -> None:
    """``fedlite simulate seed`` means an option: no run is started in a directory ``seed``."""
    from fedlite.base.options import options_of
    from fedlite.runs.conf import choices, groups
    from fedlite.runs.config import Config

    new = [word for word in words if not Path(word).exists() and "/" not in word]
    keys = [option.key for option in options_of(Config)] if new else []
    for word in new:
        key = key_of(word)
        if any(f"{one}.".startswith(f"{key}.") for one in keys):
            raise UsageError(f"{word}: missing; give {key}=VALUE")
        if meant := [group for group in groups() if word in choices(group)]:
            raise UsageError(f"{word}: did you mean {' or '.join(f'{g}={word}' for g in meant)}?")
        if "." in word or word != key:
            hint = did_you_mean(key, keys, count=3)
            raise UsageError(
                f"{word}: is no option=value{hint or ';'} a new directory is run.dir={word}"
            )


def options_of_run(arguments: Arguments, *, existing: bool, resumes: bool = True) -> list[str]:
    """The options of a run: those it was started with, where it is gone on with, and new ones.

    Args:
        arguments: their directory and options.
        existing: the run must be there.
        resumes: whether the command goes on with a run without being told to.

    Raises:
        UsageError: no directory, or no run in it, where one is needed; an option that cannot be
            right.
    """
    _refuse_what_is_no_directory(arguments.words)
    from fedlite.runs.at_once import check_at_once

    check_at_once(arguments.options)
    flags = [flag for flag in arguments.flags if flag.split("=")[0] in CONFIG_FLAGS]
    given = [*flags, *arguments.options]
    directory = arguments.directory()
    if directory is None:
        if existing:
            raise UsageError(
                f"fedlite {arguments.command}: give the run directory:"
                f" fedlite {arguments.command} DIR"
            )
        return given
    from fedlite.runs.saved import holds_run, with_saved

    if existing and not holds_run(directory):
        raise UsageError(f"run.dir={directory}: no run there; start one with `fedlite simulate`")
    given = [*flags, f"{RUN_DIR}={directory.absolute()}", *arguments.options]
    resumes = resumes or any(one.lower() in YES for one in given_values(arguments, RESUME))
    return with_saved(directory, given) if resumes and holds_run(directory) else given


def given_values(arguments: Arguments, key: str) -> list[str]:
    """The values that are given for an option."""
    return [text.partition("=")[2] for text in arguments.options if key_of(text) == key]
