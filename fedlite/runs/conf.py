"""Finding ``conf/``, in a wheel and in a checkout alike, and what there is to choose in it."""

from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.base.files import PACKAGE


def conf_dir() -> Path:
    """The one ``conf/`` folder: inside the package in a wheel, beside it in a checkout.

    Raises:
        UsageError: neither is there (a broken installation).
    """
    for candidate in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise UsageError(f"conf/config.yaml not found in or beside {PACKAGE}: reinstall fedlite")


def groups() -> list[str]:
    """The folders of ``conf/``."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def choices(group: str) -> list[str]:
    """The files of a group of ``conf/``."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
