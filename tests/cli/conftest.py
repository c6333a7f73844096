"""Reports of finished runs, to compare in a sweep."""

from tests.report.conftest import make_report  # noqa: F401
