"""The examples in docstrings say what the code does."""

import doctest
import importlib
from pathlib import Path

import pytest

import fedlite

ROOT = Path(fedlite.__file__).parent
WITH_EXAMPLES = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_module_hold(path: Path) -> None:
    module = ".".join(("fedlite", *path.relative_to(ROOT).with_suffix("").parts))

    outcome = doctest.testmod(importlib.import_module(module))

    assert outcome.attempted
    assert not outcome.failed
