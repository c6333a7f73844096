"""Networks without their dropout: what else is random in them, or looks at the batch, shows."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from fedlite.base.seeded import generator_state

Found = TypeVar("Found")


class NoDropout(TorchFunctionMode):
    """Dropout of any kind lets everything pass, in modules and as functions.

    Nothing else that training mode does is turned off, so that what remains random, or looks at
    the batch, shows.
    """

    _DROPOUTS = frozenset(
        {
            F.dropout,
            F.dropout1d,
            F.dropout2d,
            F.dropout3d,
            F.alpha_dropout,
            F.feature_alpha_dropout,
            torch.dropout,
            torch.dropout_,
            torch.alpha_dropout,
            torch.feature_dropout,
            torch.feature_alpha_dropout,
        }
    )
    _WITH_DROPOUT: Mapping[Any, Mapping[str, Any]] = {
        F.scaled_dot_product_attention: {"dropout_p": 0.0},
        F.multi_head_attention_forward: {"training": False},
    }

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func``, or answer its input where it is a dropout."""
        kwargs = dict(kwargs or {})
        if func in self._DROPOUTS:
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs | dict(self._WITH_DROPOUT.get(func, {}))))


def without_dropout(ask: Callable[[], Found], device: torch.device) -> Found:
    """What ``ask`` finds of a network on ``device`` where dropout lets everything pass; asked once
    where nothing is drawn."""
    before = generator_state(device)
    found = ask()
    if torch.equal(generator_state(device), before):
        return found
    with NoDropout():
        return ask()
