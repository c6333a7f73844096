"""Things that an option names: a module of that name in one package, or any path to an attribute.

A data source, partition, loss, strategy, block or format is one module; its name is the module's,
and what is used of it is one attribute. A new one is a new file: there is no list to add it to. A
name with dots, such as ``my_package.losses.mine``, is looked up as it stands, so that users bring
their own without touching fedlite.
"""

import importlib
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlite.base.errors import UsageError
from fedlite.base.files import PACKAGE
from fedlite.base.foreign import FAILURES, refusal
from fedlite.base.nearest import did_you_mean


@dataclass(frozen=True)
class Named:
    """Where the things of one kind lie.

    ``option`` is the key that names one, ``package`` the package of their modules, ``attribute``
    what each module holds. ``open`` says whether a path to an attribute is taken too.
    """

    option: str
    package: str
    attribute: str
    open: bool = True

    def names(self) -> tuple[str, ...]:
        """The names of all modules, sorted; reads the folder and imports nothing."""
        folder = PACKAGE.joinpath(*self.package.split(".")[1:])
        found = (module.name for module in pkgutil.iter_modules([str(folder)]))
        return tuple(sorted(name for name in found if not name.startswith("_")))

    def problem(self, name: str) -> str:
        """What is wrong with ``name`` as far as can be told without an import; "" if nothing."""
        if name in self.names() or (self.open and "." in name.strip(".")):
            return ""
        path = ", or a path such as my_package.module.name" if self.open else ""
        return f"must be one of {', '.join(self.names())}{path}{did_you_mean(name, self.names())}"

    def find(self, name: str) -> Any:
        """The thing that ``name`` stands for.

        Raises:
            UsageError: there is none, or its module cannot be imported.
        """
        if problem := self.problem(name):
            raise UsageError(f"{self.option}={name}: {problem}")
        if name in self.names():
            return getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute)
        return import_path(name, self.option)


def import_path(path: str, option: str) -> Any:
    """What ``package.module.attribute`` names.

    Modules in the working directory are found too, after installed ones.

    Raises:
        UsageError: no such module or attribute, or the module fails; names ``option``.
    """
    module_name, _, attribute = path.rpartition(".")
    if not all(path.split(".")) or not module_name:
        raise UsageError(f"{option}={path}: give the full path, such as package.module.name")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except FAILURES as error:
        raise refusal(f"{option}={path}: cannot import", error) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        hint = did_you_mean(attribute, vars(module))
        raise UsageError(f"{option}={path}: cannot import: {error}{hint}") from error
