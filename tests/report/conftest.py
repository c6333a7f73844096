"""Fixtures of the tests of reports: reports of finished runs."""

from collections.abc import Callable

import pytest

from tests.report.runs import Report, finished_report


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """The function that makes a report; see :func:`finished_report`."""
    return finished_report


@pytest.fixture
def report() -> Report:
    """The report of a private run in which private data helped."""
    return finished_report()
