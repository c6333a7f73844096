"""Finding ``conf/`` and composing it, in a wheel and in a checkout alike."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from fedlite.config import Config
from fedlite.config_checks import parse_config
from fedlite.errors import UsageError


def conf_dir() -> Path:
    """The one ``conf/`` folder: inside the package in a wheel, beside it in a checkout.

    Raises:
        UsageError: neither is there (a broken installation).
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise UsageError(f"conf/config.yaml not found in or beside {package}: reinstall fedlite")


def compose_config(overrides: Sequence[str] = ()) -> Config:
    """Compose ``conf/`` with override strings, as the command line does.

    Raises:
        UsageError: an override that does not fit.
    """
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return parse_config(compose("config", overrides=list(overrides)))
    except HydraException as error:
        raise UsageError(str(error).splitlines()[0]) from error
