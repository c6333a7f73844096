"""Pictures of any size, aspect, colour and kind, as a model sees them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlite.serve.pictures import FITTED, GREYED, INVERTED, fit, read_picture
from fedlite.serve.preprocessing import Preprocessing

GREY = Preprocessing((1, 8, 8), 16.0, (0.2,), (0.3,))
COLOUR = Preprocessing((3, 8, 8), 255.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def saved(folder: Path, image: Image.Image, name: str = "picture.png") -> Path:
    image.save(folder / name)
    return folder / name


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (7, 3), (300, 1), (9, 8)])
def test_a_picture_keeps_its_aspect_within_the_colour_of_its_border(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 90)
    image.paste(200, (size[0] // 3, size[1] // 3, size[0] * 2 // 3, size[1] * 2 // 3))
    found = np.asarray(fit(image, 8, 8))
    assert found.shape == (8, 8)
    wide, high = (8, max(1, round(8 * size[1] / size[0])))
    if size[1] > size[0]:
        wide, high = max(1, round(8 * size[0] / size[1])), 8
    top, left = (8 - high) // 2, (8 - wide) // 2
    outside = np.ones((8, 8), bool)
    outside[top : top + high, left : left + wide] = False
    assert set(found[outside]) <= {90}


def test_the_border_s_colour_is_found_by_channel() -> None:
    image = Image.new("RGB", (16, 8), (10, 60, 250))
    image.putpixel((0, 0), (255, 255, 255))
    found = np.asarray(fit(image, 8, 8))
    assert found[0, 0].tolist() == found[7, 7].tolist() == [10, 60, 250]


def test_what_was_done_to_a_picture_is_noted(tmp_path: Path) -> None:
    plain = saved(tmp_path, Image.new("L", (8, 8), 50))
    assert read_picture(plain, GREY).notes == ()
    larger = saved(tmp_path, Image.new("L", (80, 80), 50))
    assert read_picture(larger, GREY).notes == ()
    wide = saved(tmp_path, Image.new("L", (80, 40), 50))
    assert read_picture(wide, GREY).notes == (FITTED,)
    red = saved(tmp_path, Image.new("RGB", (8, 8), "#a00000"))
    assert read_picture(red, GREY).notes == (GREYED,)
    assert read_picture(red, COLOUR).notes == ()
    grey = saved(tmp_path, Image.new("RGB", (8, 8), "#303030"), "grey.jpg")
    assert read_picture(grey, GREY).notes == ()


def test_ink_on_paper_is_taken_for_a_negative_and_can_be_inverted(tmp_path: Path) -> None:
    ink = Image.new("L", (8, 8), 255)
    ink.paste(20, (3, 1, 5, 7))
    path = saved(tmp_path, ink)
    assert read_picture(path, GREY).notes == (INVERTED,)
    turned = read_picture(path, GREY, invert=True)
    assert turned.notes == ()
    np.testing.assert_allclose(turned.pixels, 1 - read_picture(path, GREY).pixels, atol=1e-6)
    assert read_picture(saved(tmp_path, Image.new("RGB", (8, 8), "#b0b0b0")), COLOUR).notes == ()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_the_usual_kinds_are_read(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, Image.new("L", (20, 20), 120), f"a.{suffix}")
    np.testing.assert_allclose(read_picture(path, GREY).pixels, 120 / 255, atol=0.02)
