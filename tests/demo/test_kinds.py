"""The page of a student that takes no pictures: series, maps and rows of numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .browser import SECONDS, answered, canvas_of, expected


def content_of(site: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((site / name / "demo.json").read_text())
    return content


@pytest.mark.parametrize(("name", "shape"), [("series", (2, 16)), ("map", (1, 6, 10))])
def test_public_examples_are_plotted_and_answered_as_python_does(
    page, url, site, tmp_path, name, shape
):
    page.goto(f"{url}/{name}/")
    pictures = []
    for i, sample in enumerate(content_of(site, name)["samples"]):
        page.locator("#samples button").nth(i).click()
        page.locator("#truth", has_text=f": {sample['label']}").wait_for(timeout=SECONDS)
        found = answered(page)
        np.save(tmp_path / "one.npy", np.array(sample["values"]).reshape(shape))
        wanted = expected(site / f"{name}_bundle", tmp_path / "one.npy")
        assert found == pytest.approx(wanted, abs=1e-3)
        pictures.append(np.asarray(Image.open(canvas_of(page, tmp_path / "shown.png"))))
    assert not page.locator("#image-tools").is_visible()
    assert "values" in page.locator("#about").inner_text()
    for picture in pictures:
        assert np.ptp(picture[..., :3].reshape(-1, 3), axis=0).min() > 60
    assert (pictures[0] != pictures[1]).any()


def test_rows_of_numbers_are_set_by_sliders(page, url, site, tmp_path):
    content = content_of(site, "table")
    page.goto(f"{url}/table/")
    answered(page)
    values = content["samples"][0]["values"]
    sliders = page.locator("#sliders input")
    assert sliders.count() == 3
    assert not page.locator("#input").is_visible()
    before = answered(page)
    np.save(tmp_path / "one.npy", np.array(values))
    assert before == pytest.approx(expected(site / "table_bundle", tmp_path / "one.npy"), abs=1e-3)
    high = content["typical"][2]["high"]
    page.locator("#bars").evaluate("bars => bars.setAttribute('aria-busy', 'true')")
    sliders.nth(2).fill(str(high))
    sliders.nth(2).dispatch_event("change")
    found = answered(page)
    np.save(tmp_path / "one.npy", np.array([*values[:2], high]))
    assert found == pytest.approx(expected(site / "table_bundle", tmp_path / "one.npy"), abs=1e-3)
    assert found != before
    assert page.locator("#truth").inner_text() == ""


def test_sliders_move_by_keys(page, url, site):
    content = content_of(site, "table")
    page.goto(f"{url}/table/")
    before = answered(page)
    page.locator("#bars").evaluate("bars => bars.setAttribute('aria-busy', 'true')")
    page.locator("#sliders input").first.press("ArrowRight")
    assert answered(page) != before
    low, high = (content["typical"][0][end] for end in ("low", "high"))
    moved = float(page.locator("#sliders input").first.input_value())
    assert moved == pytest.approx(content["samples"][0]["values"][0] + (high - low) / 200, rel=1e-3)
