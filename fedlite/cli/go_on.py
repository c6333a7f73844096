"""What ends a run early is told where the run lies and the command that goes on with it."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.cli.parse import RESUME, RUN_DIR
from fedlite.runs.literal import key_of


@contextmanager
def told_how_to_go_on(command: str, options: Sequence[str], directory: Path) -> Iterator[None]:
    """Within, whatever is raised gets a note with the run's directory and the command; a refusal
    only where there is a run to go on with."""
    try:
        yield
    except BaseException as error:  # Ctrl-C too; all of it is raised again
        from fedlite.runs.directory import has_begun

        if not directory.is_dir():
            raise
        if not isinstance(error, UsageError):
            error.add_note(f"the run lies in {directory}")
            error.add_note(f"go on with: {command_to_go_on(command, options, directory)}")
        elif has_begun(directory):
            error.add_note(f"the run goes on with: {command_to_go_on(command, [], directory)}")
        raise


def command_to_go_on(command: str, options: Sequence[str], directory: Path) -> str:
    """The command that goes on with a run, for a shell.

    Args:
        command: that ran it.
        options: with which it ran; those that the run keeps are left out.
        directory: where it lies.
    """
    from fedlite.runs.directory import load_overrides, portable
    from fedlite.runs.saved import holds_run

    kept = load_overrides(directory) if holds_run(directory) else []
    words = ["fedlite", command, f"{RUN_DIR}={directory}"]
    for text in options:
        (written,) = portable([text]) or [text]
        if written not in kept and key_of(text) not in (RUN_DIR, RESUME):
            words.append(written)
    return shlex.join([*words, f"{RESUME}=true"] if command == "simulate" else words)
