"""A student that knows the digits, as a file to serve."""

from tests.compress.conftest import digits, student, student_path  # noqa: F401
