"""What a report says of a search."""

from fedlite.report.searches import search_markdown
from tests.report.runs import search_section


def test_it_shows_what_was_found_against_the_default_and_what_it_took() -> None:
    text = search_markdown(search_section())
    assert text.startswith("Smallest file within the limits")
    assert "| Hand-set default | 86.2% | 0.038 | 24.1 kB |" in text
    assert "| Found | 85.9% | 0.031 | 18.2 kB |" in text
    assert "40 trials in 12 min 34 s. Chosen: `ratio=0.4`, `criterion=taylor`," in text


def test_a_target_that_was_not_reached_is_said_first() -> None:
    text = search_markdown(search_section() | {"reached": False, "text": "Nearest: 24.1 kB."})
    assert text.startswith("**Not reached**: Nearest: 24.1 kB.")


def test_a_default_that_failed_has_no_row() -> None:
    text = search_markdown(search_section() | {"default": None})
    assert "Hand-set" not in text
    assert "| Found |" in text
