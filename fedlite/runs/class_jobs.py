"""The runs that a run of several classes of students is made of: their options and directories."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fedlite.base.class_folders import CLASSES
from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation.class_options import KEY, StudentClass
from fedlite.runs.compose import compose_config, expand_files
from fedlite.runs.config import Config
from fedlite.runs.literal import literal
from fedlite.runs.saved import merged

ALONE = "alone"  # the folder of classes that do not join, beside CLASSES


@dataclass(frozen=True)
class ClassJob:
    """The run of one class; ``label`` stands in front of its stages' names."""

    overrides: list[str]
    config: Config
    label: str


def has_classes(config: Config) -> bool:
    """Whether a run is one of several classes, and not of one of them."""
    return bool(config.federation.classes) and not config.federation.class_name


def class_jobs(
    config: Config, overrides: Sequence[str], directory: Path, folder: str = CLASSES
) -> dict[str, ClassJob]:
    """The run of each class, in a directory of its name in ``folder``.

    Args:
        config: of the run of all classes.
        overrides: the option strings that made it.
        directory: where it lies.
        folder: ``CLASSES``, or ``ALONE`` of classes that do not join.

    Raises:
        UsageError: the student of a class cannot be had; names the class.
    """
    alone = ("federation.join.every=0", "federation.compare=false") if folder == ALONE else ()
    found = {}
    for name, one in config.federation.classes.items():
        own = [f"federation.class_name={name}", *_student(one), *alone]
        given = merged(overrides, own)
        try:
            composed = compose_config(given)
        except UsageError as error:
            raise UsageError(f"{KEY}.{name}: {error}") from error
        run = replace(composed.run, dir=str(directory / folder / name))
        label = f"{name} alone" if folder == ALONE else name
        found[name] = ClassJob(given, replace(composed, run=run), label)
    return found


def _student(one: StudentClass) -> list[str]:
    chosen = expand_files([f"student={one.student}"]) if one.student else []
    kwargs = (f"+student.kwargs.{key}={literal(value)}" for key, value in one.kwargs.items())
    return [*chosen, *kwargs]


@contextmanager
def of_class(name: str) -> Iterator[None]:
    """Within, an error says which class it is of."""
    try:
        yield
    except FedliteError as error:
        raise type(error)(f"class {name}: {error}") from error


def refuse_one_of_several(config: Config) -> None:
    """Refuse to train one class of a run whose classes learn from each other.

    Raises:
        UsageError: says what to do instead.
    """
    federation = config.federation
    if federation.class_name and federation.join.every:
        raise UsageError(
            f"federation.class_name={federation.class_name}: learns from the other classes, so it"
            " is trained in the run of all of them; go on with that, or train the class alone with"
            " federation.join.every=0"
        )
