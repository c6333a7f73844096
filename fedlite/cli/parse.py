"""The one parser of what a user types: flags, words, and options of the form ``key=value``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.runs.literal import key_of, literal

RUN_DIR, RESUME = "run.dir", "run.resume"
FLAGS_WITH_VALUE = ("--cfg", "--package", "--info")  # of Hydra


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
            raise UsageError(f"fedlite {self.command}: unknown flag '{unknown[0]}'; {has}")

    def take(self, *names: str) -> dict[str, str]:
        """Take the command's own options out; the rest stays for the run.

        Raises:
            UsageError: one of them has no value, or is given twice.
        """
        taken: dict[str, str] = {}
        for text in [text for text in self.options if key_of(text) in names]:
            self.options.remove(text)
            name, value = key_of(text), text.split("=", 1)[1]
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
            raise UsageError(f"unknown option '{self.options[0]}'; options: {', '.join(known)}")

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
        return Path(both[0]) if both else None

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
    from fedlite.runs.saved import values_of

    return str(values_of([text])[RUN_DIR])


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
        if text in FLAGS_WITH_VALUE and rest and not rest[0].startswith("-"):
            found.flags.append(f"{text}={rest.pop(0)}")
        elif text.startswith("-"):
            found.flags.append(text)
        elif "=" in text and not Path(text).is_dir():
            found.options.append(text)
        else:
            found.words.append(text)
    return found


def _refuse_options_without_value(words: Sequence[str]) -> None:
    """``fedlite simulate seed`` means an option: no run is started in a directory ``seed``."""
    from fedlite.base.options import options_of
    from fedlite.runs.config import Config

    keys = [option.key for option in options_of(Config)] if words else []
    for word in words:
        if not Path(word).exists() and any(f"{key}.".startswith(f"{word}.") for key in keys):
            raise UsageError(f"{word}: missing; give {word}=VALUE")


def options_of_run(arguments: Arguments, *, existing: bool, resumes: bool = True) -> list[str]:
    """The options of a run: those it was started with, where it is gone on with, and new ones.

    Args:
        arguments: their directory and options.
        existing: the run must be there.
        resumes: whether the command goes on with a run without being told to.

    Raises:
        UsageError: no directory, or no run in it, where one is needed.
    """
    _refuse_options_without_value(arguments.words)
    directory = arguments.directory()
    if directory is None:
        if existing:
            raise UsageError(
                f"fedlite {arguments.command}: give the run directory:"
                f" fedlite {arguments.command} DIR"
            )
        return arguments.options
    from fedlite.runs.saved import holds_run, values_of, with_saved

    if existing and not holds_run(directory):
        raise UsageError(f"run.dir={directory}: no run there; start one with `fedlite simulate`")
    options = [f"{RUN_DIR}={literal(str(directory))}", *arguments.options]
    resumes = resumes or values_of(options).get(RESUME) is True
    return with_saved(directory, options) if resumes and holds_run(directory) else options
