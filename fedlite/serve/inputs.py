"""Raw examples out of files and folders: pictures, arrays and tables."""

import csv
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import visible_files
from fedlite.base.nearest import did_you_mean, did_you_mean_file
from fedlite.serve.dialect import is_number, rows_of
from fedlite.serve.logmel import LogMel
from fedlite.serve.parquet import PARQUETS, array_of, is_parquet, read_parquet, rows_of_parquet
from fedlite.serve.pictures import PICTURES, read_picture
from fedlite.serve.preprocessing import Kind, Preprocessing
from fedlite.serve.sounds import SOUNDS, clips_of, read_clip
from fedlite.serve.texts import KINDS_IN_WORDS as TEXTS_IN_WORDS
from fedlite.serve.texts import TEXTS, TextPreprocessing, read_texts

DECIMAL_COMMA = re.compile(r"^(\s*[-+]?\d*),(\d+(?:[eE][-+]?\d+)?\s*)$")
TRUTH = {"true": 1.0, "false": 0.0}  # as a table is trained on
KINDS = (*PICTURES, ".npy", ".npz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", *PARQUETS)
KINDS_IN_WORDS = "png, jpg, npy, npz, csv, tsv or parquet"  # of what is neither text nor sound
SOUNDS_IN_WORDS = "wav, npy or npz"


@dataclass(frozen=True)
class Examples:
    """Raw examples (n, *input_shape) of one file, the name of each, and what to know of all."""

    names: list[str]
    raw: NDArray[Any]
    notes: tuple[str, ...] = ()


def files_of(inputs: Sequence[Path], kind: Kind | Literal["text"] = "picture") -> list[Path]:
    """The files that are meant: folders stand for all that can be read below them, by name.

    ``kind`` is what the model takes: a model of texts takes other files, and one of sounds too.

    Raises:
        UsageError: something is not there, holds nothing that can be read, or is of another kind.
    """
    words = {"text": TEXTS_IN_WORDS, "sound": SOUNDS_IN_WORDS}.get(kind, KINDS_IN_WORDS)
    found = []
    for path in inputs:
        if path.is_dir():
            files, _ = contents_of(path, kind)
            if not files:
                raise UsageError(f"input={path}: nothing to predict there; give {words}")
            found += files
        elif not path.is_file():
            hint = did_you_mean_file(path) or ";"
            raise UsageError(f"input={path}: no such file or folder{hint} give {words}")
        elif not _readable(path, kind):
            suffix = path.suffix.lower() or "(none)"
            raise UsageError(f"input={path}: unknown kind {suffix}; give {words}")
        else:
            found.append(path)
    return found


def contents_of(
    folder: Path, kind: Kind | Literal["text"] = "picture"
) -> tuple[list[Path], list[Path]]:
    """The files below a folder that can be read, and the others; hidden ones are neither."""
    files = visible_files(folder)
    others = [path for path in files if not _readable(path, kind)]
    return [path for path in files if _readable(path, kind)], others


def _readable(path: Path, kind: str) -> bool:
    kinds = {"text": TEXTS, "sound": (*SOUNDS, *KINDS)}.get(kind, KINDS)
    return path.name.lower().endswith(kinds)


def refuse_what_does_not_fit(
    files: Sequence[Path], preprocessing: Preprocessing | TextPreprocessing, invert: bool
) -> None:
    """Refuse pictures, and their negatives, where the model takes something else.

    Raises:
        UsageError: says what it takes.
    """
    if preprocessing.kind == "picture":
        return
    if invert:
        raise UsageError(f"invert: only of pictures; this model takes {preprocessing.words}")
    words = SOUNDS_IN_WORDS if preprocessing.kind == "sound" else "npy, npz, csv or parquet"
    for path in files:
        if path.suffix.lower() in PICTURES:
            raise UsageError(
                f"input={path}: is a picture, and this model takes {preprocessing.words};"
                f" give {words}"
            )


def read_examples(
    path: Path, preprocessing: Preprocessing | TextPreprocessing, *, name: str, invert: bool
) -> Examples:
    """The examples of one file, called by ``name`` and their place in it.

    A picture's full range stands for the raw range 0..``scale``
    (:func:`fedlite.serve.pictures.read_picture`). An npy holds raw values, an npz too, in the array
    ``inputs`` or in its only or first one: one example or many, channels first or last, or
    flattened. A csv holds one flattened example per line, channels first, with or without a
    header; where the model is of a table, a header with its columns among others. A parquet is read
    as a csv with a header, or holds an array in each row. Where the model takes texts, a txt holds
    one on each line, and a csv, tsv, jsonl or parquet in the columns that the training data had
    (:func:`fedlite.serve.texts.read_texts`). Where it takes recordings, a wav is one, and an npy,
    npz or parquet holds spectrograms as above, or samples at the model's rate
    (:func:`fedlite.serve.sounds.clips_of`).

    Raises:
        UsageError: its examples have another shape.
        FedliteError: it is damaged.
    """
    if isinstance(preprocessing, TextPreprocessing):
        texts = read_texts(path, preprocessing.columns)
        names = [f"{name}:{place}" for place in range(1, len(texts) + 1)]
        return Examples(names, preprocessing.encode(texts))
    kind, shape, front = path.suffix.lower(), preprocessing.input_shape, preprocessing.sound
    if front is not None and kind in SOUNDS:
        clip = read_clip(path, front, "input")
        return Examples([name], front(clip.samples[None]), clip.notes)
    if kind in PICTURES:
        picture = read_picture(path, preprocessing, invert=invert)
        return Examples([name], picture.pixels[None] * preprocessing.scale, picture.notes)
    if is_parquet(path):
        table = read_parquet(path)
        array = None if preprocessing.columns else array_of(table, path)
        cells = rows_of_parquet(table)
    else:
        array = _read_array(path) if kind in (".npy", ".npz") else None
        cells = _cells_of(path)
    if array is not None:
        if front is not None and array.ndim <= 2 and array.shape != shape[1:]:
            return _sounds(array, front, path, name)
        raw = shaped(array, shape, path)
        names = [f"{name}[{i}]" for i in range(len(raw))]
    else:
        lines, rows = _read_rows(path, cells, math.prod(shape), preprocessing.columns)
        names, raw = [f"{name}:{line}" for line in lines], rows.reshape(-1, *shape)
    return Examples(names, preprocessing.scale - raw if invert else raw)


def _sounds(array: NDArray[Any], front: LogMel, path: Path, name: str) -> Examples:
    clips = clips_of(array, front, f"input={path}")
    names = [name] if array.ndim == 1 else [f"{name}[{place}]" for place in range(len(clips))]
    notes = tuple(dict.fromkeys(note for clip in clips for note in clip.notes))
    return Examples(names, front(np.stack([clip.samples for clip in clips])), notes)


def _read_array(path: Path) -> NDArray[Any]:
    key = ""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found as stored:
                if not stored.files:
                    raise UsageError(f"input={path}: holds no array; give one named inputs")
                key = "inputs" if "inputs" in stored.files else stored.files[0]
                found = stored[key]
        array = np.asarray(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        kind = path.suffix.lower().removeprefix(".")
        raise FedliteError(f"input={path}: not an {kind} file of numbers, or damaged") from error
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise UsageError(
            f"input={path}: {f'array {key}' if key else 'it'} must hold finite numbers"
        )
    return array


def shaped(array: NDArray[Any], shape: tuple[int, ...], source: Path) -> NDArray[Any]:
    """``array`` as (n, *shape): one example or many, channels first or last, or flattened.

    Raises:
        UsageError: it fits none of these.
    """
    last = (*shape[1:], shape[0])
    plain = shape[1:] if shape[0] == 1 else shape
    flat = (math.prod(shape),)
    for example in (shape, last, plain, flat):
        for batch in (array[None], array):
            if batch.shape[1:] == example and len(batch):
                if example == last != shape:
                    batch = np.moveaxis(batch, -1, 1)
                return batch.reshape(-1, *shape)
    raise UsageError(
        f"input={source}: shape {array.shape} does not fit; expected {shape} or n of them"
    )


def _read_rows(
    path: Path, all_cells: Iterator[list[str]], width: int, columns: Sequence[str]
) -> tuple[list[int], NDArray[np.float64]]:
    """Numbers of lines (of a parquet: of rows) and values (n, width); a first line of words is a
    header.

    A header that holds all of ``columns`` says where they are, whatever lies between them.
    """
    lines, rows = [], []
    places: list[int] | None = None
    first, word = (0, "row") if is_parquet(path) else (1, "line")
    try:
        for number, cells in enumerate(all_cells, start=first):
            if not cells:
                continue
            if number == first and (first == 0 or _is_header(cells, columns)):
                places = _places(cells, columns, path) if columns else None
                continue
            if places is not None:
                cells = [cells[place] for place in places if place < len(cells)]
            values = _numbers(cells)
            if values is None:
                wrong = next(cell for cell in cells if _numbers([cell]) is None)
                raise UsageError(
                    f"input={path}: {word} {number} holds {wrong!r}, which is no finite number"
                )
            if len(values) != width:
                raise UsageError(
                    f"input={path}: {word} {number} has {len(values)} values; expected {width}"
                )
            lines.append(number)
            rows.append(values)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise FedliteError(f"input={path}: not a csv file, or damaged") from error
    if not rows:
        raise UsageError(f"input={path}: holds no example; expected {width} values per {word}")
    return lines, np.array(rows)


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a first line names columns: it has no number, or all the names of the model's."""
    named = bool(columns) and set(columns) <= {cell.strip() for cell in cells}
    return named or not any(map(is_number, cells))


def _places(header: Sequence[str], columns: Sequence[str], path: Path) -> list[int] | None:
    """Where the columns are in a header; None if it has none of them, and they are as they come."""
    names = [cell.strip() for cell in header]
    missing = [name for name in columns if name not in names]
    if len(missing) == len(columns):
        return None
    if missing:
        hint = did_you_mean(missing[0], names) or ";"
        raise UsageError(
            f"input={path}: lacks {len(missing)} of the model's {len(columns)} columns, such as"
            f" {missing[0]!r}{hint} it has {', '.join(names)}"
        )
    return [names.index(name) for name in columns]


def _cells_of(path: Path) -> Iterator[list[str]]:
    """The cells of each line; where they are parted by no comma, a comma is a decimal point."""
    delimiter, rows = rows_of(path)
    for cells in rows:
        if delimiter == ",":
            yield cells
        else:
            yield [DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]


def _numbers(cells: list[str]) -> list[float] | None:
    try:
        values = [float(TRUTH.get(cell.strip().lower(), cell)) for cell in cells]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None
