"""Formatting: what is shown is what was measured, and never flatters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.report.words import (
    epsilon_text,
    human_bytes,
    human_seconds,
    what_private_data_bought,
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


@pytest.mark.parametrize(
    ("federated", "words"),
    [
        (0.86, "bought 6.0 points of accuracy (22 of 360 test examples) over"),
        (0.80, "bought nothing: the public-only student is as accurate"),
        (0.79, "bought nothing: the public-only student is better by 1.0 points"),
    ],
)
def test_it_says_so_when_private_data_bought_nothing(federated: float, words: str) -> None:
    models = {"public_student": {"accuracy": 0.80}, "federated_student": {"accuracy": federated}}
    sentence = what_private_data_bought({"models": models, "dataset": {"test": 360}})
    assert sentence is not None
    assert words in sentence


def test_nothing_is_said_without_a_federated_student() -> None:
    assert what_private_data_bought({"models": {"public_student": {"accuracy": 0.8}}}) is None
