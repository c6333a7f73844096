"""Planted bugs: the check that passes on the real code must fail on each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]  # puts one bug into the real code


@contextmanager
def caught(because: str) -> Iterator[None]:
    """The check inside fails, and with these words: not because the bug crashed."""
    with pytest.raises(AssertionError, match=because):
        yield
