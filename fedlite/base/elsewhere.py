"""Running a module of fedlite in a fresh process, in this Python or in that of another environment.

Converters and runtimes pin packages that clash with fedlite's own. They live in environments of
their own then, which need torch and the converter and have no fedlite.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import PACKAGE

MISSING = 3  # the exit code of a worker that lacks the package it is made for


class MissingPackageError(FedliteError):
    """The other Python lacks the package that the module needs."""


def run_module(module: str, arguments: Sequence[str], python: str | None = None) -> None:
    """Run ``python -m module arguments`` quietly.

    Args:
        module: of fedlite.
        arguments: of its command line.
        python: an interpreter of another environment, which then sees of this one the package
            fedlite alone; None is this interpreter.

    Raises:
        UsageError: ``python`` cannot be started.
        MissingPackageError: a package is not installed there.
        FedliteError: the module failed; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        if python is None:
            search = os.pathsep.join(filter(None, sys.path))
        else:
            search = folder
            (Path(folder) / "fedlite").symlink_to(PACKAGE, target_is_directory=True)
        try:
            done = subprocess.run(
                [
                    str(Path(python).absolute()) if python else sys.executable,
                    "-m",
                    module,
                    *arguments,
                ],
                capture_output=True,
                text=True,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": search},
                check=False,
            )
        except OSError as error:
            raise UsageError(
                f"compress.converters: {python} cannot be started ({error.strerror}); give the"
                " Python of an environment that has the converter"
            ) from error
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    raise (MissingPackageError if done.returncode == MISSING else FedliteError)(said[-1])
