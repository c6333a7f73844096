"""The gradient engines, by the name that ``privacy.gradients`` gives them."""

from collections.abc import Mapping

from fedlite.privacy.bookkeeping import BookKeeping
from fedlite.privacy.clipping import Engine, OpacusHooks

ENGINES: Mapping[str, Engine] = {"opacus": OpacusHooks, "bookkeeping": BookKeeping}
