"""What was probably meant by a column, or by a file, that is not there."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import read_raw

COLUMNS = {"Weight": [1.5, 2.5, 3.5, 4.5], "words": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]}
RIGHT = {"inputs": "Weight", "labels": "label"}
ARRAYS = {"inputs_train": "x", "labels_train": "y"}


def written(folder: Path, name: str) -> Path:
    path, rows = folder / name, list(zip(*COLUMNS.values(), strict=True))
    if path.suffix == ".parquet":
        pq.write_table(pa.table(COLUMNS), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows))
    else:
        path.write_text("\n".join(",".join(map(str, row)) for row in [[*COLUMNS], *rows]))
    return path


def read(source: str, root: Path, keys: dict[str, str], **more: Any) -> None:
    read_raw(DatasetOptions("mine", source, root=str(root), keys=keys, **more))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("table", "a.csv"),
        ("table", "a.parquet"),
        ("text", "a.csv"),
        ("text", "a.jsonl"),
        ("text", "a.parquet"),
        ("huggingface", "a.csv"),
        ("huggingface", "a.parquet"),
    ],
)
@pytest.mark.parametrize(
    ("key", "typed", "meant"),
    [("labels", "lable", "label"), ("inputs", "weight", "Weight"), ("groups", "wrds", "words")],
)
def test_a_misspelt_column_names_the_nearest(
    source: str, name: str, key: str, typed: str, meant: str, tmp_path: Path
) -> None:
    right = RIGHT | ({"inputs": "words"} if source == "text" else {})
    words = rf"no column '{typed}'.*; did you mean {meant}\? .*has Weight, words, label$"
    with pytest.raises(UsageError, match=words):
        read(source, written(tmp_path, name), right | {key: typed})


@pytest.mark.parametrize("source", ["table", "text", "pictures", "huggingface"])
@pytest.mark.parametrize("typed", ["patient.csv", "PATIENTS.csv", "./patinets.csv"])
def test_a_misspelt_path_names_the_nearest_beside_it(
    source: str, typed: str, tmp_path: Path
) -> None:
    meant = written(tmp_path, "patients.csv")
    with pytest.raises(UsageError, match=rf"no such path; did you mean {meant}\? give "):
        read(source, tmp_path / typed, RIGHT)
    with pytest.raises(UsageError, match=r"no such path; give the data of mine"):
        read(source, tmp_path / "elsewhere" / typed, RIGHT)


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("table", {"train": "tran.csv"}),
        ("text", {"train": "tran.csv"}),
        ("npz", {"data": "tran.csv"}),
        ("npy", {"inputs_train": "tran.csv", "labels_train": "train.csv"}),
    ],
)
def test_a_misspelt_file_in_a_folder_names_the_nearest(
    source: str, files: dict[str, str], tmp_path: Path
) -> None:
    meant = written(tmp_path, "train.csv")
    with pytest.raises(UsageError, match=rf"no such file.*; did you mean {meant}\?"):
        read(source, tmp_path, RIGHT | ARRAYS, files=files)
