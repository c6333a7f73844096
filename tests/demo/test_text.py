"""The page of a student of texts: what is typed becomes the tokens that Python makes of it."""

from pathlib import Path
from typing import Any

import pytest

from .browser import SECONDS, answered, expected

TYPED = [
    "The cat sat on a MAT!",
    "the dog,the dog\tran--to CAFE\u0301\u2019s log_7 and \ufb01ve \u2460 mats",
    "\u65e5\u672c \U0001f600 zebra",
    "a " * 5_000 + "log",
    "\u0130stanbul STRASSE \u0645\u0631\u062d\u0628\u0627 x\u00b2 1.5e-3 don't",
]


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_what_is_typed_is_answered_as_python_does(
    kind: str, page: Any, url: str, site: Path, tmp_path: Path
) -> None:
    page.goto(f"{url}/{kind}/")
    answered(page)
    box = page.locator("#text")
    for text in TYPED:
        page.locator("#bars").evaluate("bars => bars.setAttribute('aria-busy', 'true')")
        box.fill(text)
        box.dispatch_event("change")
        found = answered(page)
        (tmp_path / "one.txt").write_text(f"{text}\n")
        wanted = expected(site / f"{kind}_bundle", tmp_path / "one.txt")
        assert found == pytest.approx(wanted, abs=1e-3), text
    assert "tokens are not known" in page.locator("#about").inner_text()


def test_public_examples_are_shown_as_words_and_answered(page: Any, url: str, site: Path) -> None:
    page.goto(f"{url}/words/")
    page.locator("#samples button").nth(1).click()
    page.locator("#truth", has_text="This public example is: 1").wait_for(timeout=SECONDS)
    answered(page)
    assert len(page.locator("#text").input_value().split()) > 1
    assert not page.locator("#stage").is_visible()
    page.locator("#text").fill("")
    page.locator("#text").dispatch_event("change")
    assert page.locator("#answer").inner_text() == "…"
