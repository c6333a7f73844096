"""Formatting: what is shown is what was measured, and never flatters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.report.words import (
    epsilon_text,
    human_bytes,
    human_seconds,
)


@given(st.floats(1e-3, 1e4))
def test_shown_epsilon_never_understates(epsilon: float) -> None:
    assert epsilon - 1e-9 <= float(epsilon_text(epsilon)) <= epsilon + 0.0101


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (61_234, "61.2 kB"), (2_050_000, "2.0 MB")]
)
def test_human_bytes(size: int, shown: str) -> None:
    assert human_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3.21, "3.2 s"), (59.99, "1 min 0 s"), (75, "1 min 15 s"), (3720, "1 h 2 min")],
)
def test_human_seconds(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown
