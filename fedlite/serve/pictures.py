"""From a picture's file to the pixels that a model sees; the page does the same (``image.js``)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.kind import Array
from fedlite.serve.preprocessing import Preprocessing

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

GREYED = "in colour; the model sees it in grey"
FITTED = "of another shape; scaled, and its sides filled with the colour of its border"
INVERTED = "perhaps a negative of what the model knows; try invert=true"


@dataclass(frozen=True)
class Picture:
    """Pixels (C, H, W) from 0 to 1, and what a person should know of how they came about."""

    pixels: Array
    notes: tuple[str, ...] = ()


def read_picture(path: Path, preprocessing: Preprocessing, *, invert: bool = False) -> Picture:
    """One picture as the model sees it.

    It is turned upright, laid on black where it is transparent, converted to the model's channels,
    scaled until it fits, and padded with the median of its border where its aspect is another.
    ``invert`` swaps dark and light.

    Raises:
        UsageError: it is too large.
        FedliteError: it is no picture, or damaged.
    """
    channels, height, width = preprocessing.input_shape
    read = open_picture(path, "input")
    notes = [GREYED] if channels == 1 and in_colour(read) else []
    read = read.convert("L" if channels == 1 else "RGB")
    if invert:
        read = ImageOps.invert(read)
    fitted = fit(read, width, height)
    if fitted_size(*read.size, width, height) != (width, height):
        notes.append(FITTED)
    pixels = np.asarray(fitted, dtype=np.float32).reshape(height, width, channels)
    shown: Array = pixels.transpose(2, 0, 1) / np.float32(255)
    if _looks_inverted(shown, preprocessing):
        notes.append(INVERTED)
    return Picture(shown, tuple(notes))


def open_picture(path: Path, option: str) -> Image.Image:
    """A picture as 8-bit grey or RGB, upright, and on black where it is transparent.

    Raises:
        UsageError: it is too large; names ``option``, which led to it.
        FedliteError: it is no picture, or damaged.
    """
    try:
        with Image.open(path) as image:
            return _eight_bits(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise UsageError(f"{option}={path}: too large an image; scale it down first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise FedliteError(f"{option}={path}: not an image, or damaged") from error


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """``image`` scaled into ``width`` x ``height`` with its aspect, in the middle; what is left is
    filled with the median of its border, channel by channel."""
    if image.size == (width, height):
        return image
    size = fitted_size(image.width, image.height, width, height)
    scaled = image
    for step in ((size[0], image.height), size):  # the page does it in this order
        scaled = scaled.resize(step, Image.Resampling.BILINEAR)
    if size == (width, height):
        return scaled
    whole = Image.new(image.mode, (width, height), _border(image))
    whole.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return whole


def fitted_size(old_width: int, old_height: int, width: int, height: int) -> tuple[int, int]:
    """The largest size within ``width`` x ``height`` of the old aspect, as whole pixels."""
    if old_width * height >= old_height * width:
        return width, max(1, (2 * old_height * width + old_width) // (2 * old_width))
    return max(1, (2 * old_width * height + old_height) // (2 * old_height)), height


def _border(image: Image.Image) -> tuple[int, ...]:
    """The upper median of the outermost pixels, by channel."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    edges = [pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]]
    ordered = np.sort(np.concatenate(edges), axis=0)
    return tuple(int(value) for value in ordered[len(ordered) // 2])


def in_colour(image: Image.Image) -> bool:
    """Whether it has colours, and not only tints of grey."""
    if image.mode == "L":
        return False
    pixels: NDArray[np.int16] = np.asarray(image).astype(np.int16)
    return int(np.ptp(pixels, axis=2).max()) > 24  # a grey photograph's JPEG has tints


def _looks_inverted(pixels: Array, preprocessing: Preprocessing) -> bool:
    """Whether its mean is far from that of the training data, and the negative's near."""
    mean, std = np.mean(preprocessing.mean), np.mean(preprocessing.std)
    found = float(pixels.mean())
    away, turned = abs(found - mean), abs(1 - found - mean)
    return bool(away > std and turned < away / 2)


def _eight_bits(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit grey or RGB: the high bytes of 16-bit grey; transparency on black."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("L", "RGB"):
        return image.copy()
    black = Image.new("RGBA", image.size, "black")
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
