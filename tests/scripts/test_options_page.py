"""docs/options.md is made from the options, and is what they say now."""

import subprocess
import sys
from pathlib import Path

from fedlite.base.options import options_of
from fedlite.runs.config import Config

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_options_say() -> None:
    script = ROOT / "scripts" / "options_page.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_option() -> None:
    text = (ROOT / "docs" / "options.md").read_text()
    assert all(f"`{option.key}`" in text for option in options_of(Config))
