"""The page in a headless Chromium: what it answers is what ``fedlite predict`` answers."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .browser import SECONDS, answered, canvas_of, draw, drop, expected

STROKES = [(0.3, 0.2), (0.7, 0.2), (0.4, 0.8)]  # near a seven


@pytest.fixture(scope="module")
def opened(browser: Any, url: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page of the digits, the addresses that it asked for, and its errors."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(f"{url}/digits/")
    answered(page)
    yield page, requests, problems
    page.close()


@pytest.fixture
def page(opened: tuple[Any, list[str], list[str]]) -> Iterator[Any]:
    """The page of the digits, cleared; it must not complain."""
    cleared, _, problems = opened
    cleared.locator("#clear").click()
    yield cleared
    assert problems == []


def test_a_sample_is_answered_as_python_does(page, site, bundle, tmp_path):
    stored = json.loads((site / "digits" / "demo.json").read_text())["samples"]
    assert len(stored) == 10
    for i in (3, 8):
        page.locator("#samples button").nth(i).click()
        page.locator("#truth", has_text=stored[i]["label"]).wait_for(timeout=SECONDS)
        found = answered(page)
        np.savez(tmp_path / "sample.npz", np.array(stored[i]["values"]).reshape(1, 8, 8))
        assert found == pytest.approx(expected(bundle, tmp_path / "sample.npz"), abs=1e-3)


def picture(size: tuple[int, int], mode: str) -> Image.Image:
    """Coarse random shapes; with alpha only part of it is opaque."""
    coarse = np.random.default_rng(sum(size)).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    coarse[..., 3] = np.where(coarse[..., 3] > 60, 255, 0)
    image = Image.fromarray(coarse, "RGBA").resize(size, Image.Resampling.NEAREST)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ((8, 8), "L"),
        ((8, 8), "RGB"),
        ((61, 40), "L"),
        ((300, 517), "RGB"),
        ((5, 90), "RGBA"),
        ((200, 1), "L"),
    ],
)
def test_a_dropped_image_is_answered_as_python_does(page, bundle, tmp_path, size, mode):
    file = tmp_path / "dropped.png"
    picture(size, mode).save(file)
    drop(page, file)
    assert answered(page) == pytest.approx(expected(bundle, file), abs=1e-3)


def test_a_photograph_that_is_turned_is_turned_back(page, bundle, tmp_path):
    file = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture((40, 24), "L").save(file, exif=exif)
    page.locator("#file").set_input_files(file)
    page.locator("#input[aria-label*=turned]").wait_for(timeout=SECONDS)
    upright = tmp_path / "upright.png"
    picture((40, 24), "L").transpose(Image.Transpose.ROTATE_270).save(upright)
    found = expected(bundle, file)
    assert found == expected(bundle, upright)
    assert answered(page) == pytest.approx(found, abs=1e-3)


def test_a_drawing_is_answered_as_python_does(page, bundle, tmp_path):
    assert page.locator("#bars li").count() == 0
    draw(page, STROKES)
    found = answered(page)
    drawn = canvas_of(page, tmp_path / "drawn.png")
    assert np.asarray(Image.open(drawn).convert("L")).max() == 255
    assert found == pytest.approx(expected(bundle, drawn), abs=1e-3)


def test_a_drawing_is_answered_while_it_is_drawn(page):
    draw(page, STROKES, lift=False)
    page.locator("#bars li.first").wait_for(timeout=SECONDS)
    assert page.locator("#answer").inner_text().startswith("digit")
    page.mouse.up()
    answered(page)


@pytest.mark.parametrize("size", [(390, 844), (360, 640)])
def test_on_a_phone_the_answer_is_in_sight_while_one_draws(browser, url, size):
    page = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)))
    page.goto(f"{url}/digits/")
    answered(page)
    draw(page, STROKES, lift=False)
    assert page.evaluate("scrollY") == 0
    for part in ("#input", "#answer", "#sure"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size[1]
    page.close()


def test_what_is_inverted_is_answered_as_python_does(page, bundle, tmp_path):
    file = tmp_path / "ink.png"
    picture((61, 40), "RGB").save(file)
    drop(page, file)
    answered(page)
    page.locator("#invert").click()
    found = answered(page)
    assert found == pytest.approx(expected(bundle, file, invert=True), abs=1e-3)
    page.locator("#invert").click()
    assert answered(page) == pytest.approx(expected(bundle, file), abs=1e-3)


def test_an_inverted_drawing_goes_on_in_dark_ink(page, bundle, tmp_path):
    page.locator("#invert").click()
    draw(page, STROKES)
    found = answered(page)
    drawn = canvas_of(page, tmp_path / "drawn.png")
    pixels = np.asarray(Image.open(drawn).convert("L"))
    assert (pixels[0, 0], pixels.min()) == (255, 0)
    assert found == pytest.approx(expected(bundle, drawn), abs=1e-3)


def test_a_drawing_unlike_the_public_examples_is_hinted_at(page, digits, tmp_path):
    hint = page.locator("#unlike")
    sevens = digits.task.preprocessing.undo(digits.public.inputs[digits.public.labels == 7])
    usual = (sevens[:, 0].mean(0) * 255 / 16).clamp(0, 255).byte().numpy()
    Image.fromarray(usual).save(tmp_path / "usual.png")
    drop(page, tmp_path / "usual.png")
    answered(page)
    assert not hint.is_visible()
    page.locator("#invert").click()
    answered(page)
    assert "negative" in hint.inner_text()
    page.locator("#clear").click()
    assert not hint.is_visible()
    draw(page, [(0.05, 0.05), (0.15, 0.05)])
    answered(page)
    assert "further left" in hint.inner_text()
    assert "higher up" in hint.inner_text()
    page.locator("#samples button").first.click()
    page.locator("#truth", has_text="This public example").wait_for(timeout=SECONDS)
    assert not hint.is_visible()


def test_a_broken_image_is_told_and_the_page_goes_on(page, bundle, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    drop(page, broken)
    page.get_by_role("alert").filter(has_text="broken.png is not an image").wait_for()
    good = tmp_path / "good.png"
    picture((8, 8), "L").save(good)
    drop(page, good)
    assert answered(page) == pytest.approx(expected(bundle, good), abs=1e-3)
    assert page.get_by_role("alert").count() == 0


@pytest.mark.parametrize("old", [(8, 8), (9, 31), (28, 28), (100, 64), (120, 181)])
@pytest.mark.parametrize("new", [(8, 8), (28, 20)])
def test_images_are_scaled_to_the_same_bytes_as_with_pillow(page, url, old, new):
    plane = np.random.default_rng(0).integers(0, 256, old[::-1], dtype=np.uint8)
    found = page.evaluate(
        """async ([script, values, sizes]) => {
            const { resize } = await import(script);
            return Array.from(resize(Uint8Array.from(values), ...sizes));
        }""",
        [f"{url}/digits/image.js", plane.ravel().tolist(), [*old, *new]],
    )
    wide = Image.fromarray(plane).resize((new[0], old[1]), Image.Resampling.BILINEAR)
    scaled = wide.resize(new, Image.Resampling.BILINEAR)
    assert found == np.asarray(scaled).ravel().tolist()


def test_the_page_says_how_large_fast_good_and_private_the_model_is(page, bundle):
    page.locator("#samples button").first.click()
    page.locator("#latency", has_text=" ms").wait_for(timeout=SECONDS)
    size = (bundle / "student.onnx").stat().st_size
    assert page.locator("#size").inner_text() == f"{size / 1000:.1f} kB"
    assert page.locator("#accuracy").inner_text() == "90.0%"
    assert "87.7% to 91.9%" in page.locator("#accuracy-note").inner_text()
    assert "epsilon 8.00 at delta 1e-05" in page.locator("#privacy").inner_text()


def test_the_card_is_a_page_on_which_nothing_runs(browser, url):
    page = browser.new_page()
    page.goto(f"{url}/digits/card.html")
    assert "<script>" in page.locator("article").inner_text()
    assert page.locator("article table").count() >= 3
    page.close()


def test_nothing_is_asked_of_anybody_else(page, url, opened):
    page.locator("#samples button").last.click()
    answered(page)
    _, requests, _ = opened
    assert any(request.endswith(".wasm") for request in requests)
    assert [request for request in requests if not request.startswith(f"{url}/digits/")] == []


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, url):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(f"{url}/digits/")
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


def test_opened_as_a_file_it_says_what_to_do(browser, site):
    page = browser.new_page()
    page.goto((site / "digits" / "index.html").as_uri())
    page.get_by_role("alert").filter(has_text="python -m http.server").wait_for()
    page.close()
