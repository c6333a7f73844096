"""Which options of a run differ from those of a run that was given none."""

from functools import lru_cache
from typing import Any

from fedlite.base.options import NEUTRAL, options_of, value_at
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config


def changed_options(config: Config) -> dict[str, Any]:
    """The options that decide a result and are not as ``fedlite simulate`` alone has them.

    By their full key, in the order of docs/options.md.
    """
    values, default = config.to_plain(), _default()
    return {
        option.key: value
        for option in options_of(Config)
        if NEUTRAL not in option.marks
        and (value := value_at(values, option.key)) != value_at(default, option.key)
    }


@lru_cache
def _default() -> dict[str, Any]:
    return compose_config().to_plain()
