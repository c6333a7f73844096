"""Tables as users have them: every dialect is read, and what cannot be learnt is said."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, read_raw
from fedlite.runs.compose import compose_config
from fedlite.runs.derived import derived_constants

HEADER = "age,height,answer"
ROWS = [f"{20 + i % 7},{1.5 + i / 10},{'yes' if i % 2 else 'no'}" for i in range(12)]
PLAIN = "\n".join([HEADER, *ROWS]) + "\n"


def read(root: Path, files: dict[str, str] | None = None, **keys: str) -> RawData:
    keys = {"labels": "answer"} | keys
    return read_raw(DatasetOptions("mine", "table", str(root), files=files or {}, keys=keys))


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("t.csv", str.encode),
        ("t.csv", lambda text: text.encode("utf-8-sig")),
        ("t.csv", lambda text: text.encode("utf-16")),
        ("t.csv", lambda text: text.replace("\n", "\r\n").encode()),
        ("t.csv", lambda text: text.replace(",", ";").replace(".", ",").encode()),
        ("t.tsv", lambda text: text.replace(",", "\t").encode()),
        ("t.txt", lambda text: text.replace(",", "|").encode()),
        ("t.csv", lambda text: text.replace(",", " , ").encode()),
        ("t.csv.gz", lambda text: gzip.compress(text.encode())),
        ("t.csv", lambda text: gzip.compress(text.encode())),
        ("t.csv", lambda text: text.replace("yes", '"yes"').encode()),
    ],
)
def test_every_dialect_gives_the_same_examples(
    tmp_path: Path, name: str, dialect: Callable[[str], bytes]
) -> None:
    (tmp_path / name).write_bytes(dialect(PLAIN))
    raw = read(tmp_path / name)
    assert raw.columns == ("age", "height")
    np.testing.assert_allclose(raw.inputs_train[3], [23, 1.8])
    assert (raw.class_names, raw.labels_train.tolist()) == (("no", "yes"), [0, 1] * 6)
    assert raw.notes == ()


def test_windows_text_is_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(PLAIN.replace("height", "Größe").encode("cp1252"))
    raw = read(tmp_path / "t.csv")
    assert raw.columns == ("age", "Größe")
    assert "read as Windows-1252" in " ".join(raw.notes)


@pytest.mark.parametrize("types", [pa.int32(), pa.float16(), pa.decimal128(12, 2), pa.bool_()])
def test_parquet_of_any_numbers(tmp_path: Path, types: pa.DataType) -> None:
    age = pa.array([0, 1] * 6, pa.int32()).cast(types)
    answer = pa.array(["no", "yes"] * 6).dictionary_encode()
    pyarrow.parquet.write_table(pa.table({"age": age, "answer": answer}), tmp_path / "t.parquet")
    raw = read(tmp_path / "t.parquet")
    assert raw.inputs_train[:, 0].tolist() == [0, 1] * 6
    assert raw.class_names == ("no", "yes")


def test_several_files_and_a_folder(tmp_path: Path) -> None:
    for part in range(3):
        written(tmp_path, "\n".join([HEADER, *ROWS[4 * part : 4 * part + 4]]), f"part-{part}.csv")
    one = read(written(tmp_path, PLAIN, "whole.txt"))
    for files in ({"train": "part-*.csv"}, {"train": "part-0.csv, part-1.csv,part-2.csv"}):
        np.testing.assert_array_equal(read(tmp_path, files).inputs_train, one.inputs_train)
    split = read(tmp_path, {"train": "part-[01].csv", "test": "part-2.csv"})
    assert split.inputs_test is not None
    assert (len(split.inputs_train), len(split.inputs_test)) == (8, 4)
    with pytest.raises(UsageError, match=r"dataset.files.train=none-\*.csv: no such file"):
        read(tmp_path, {"train": "none-*.csv"})


def test_a_folder_with_train_and_test_needs_no_names(tmp_path: Path) -> None:
    (tmp_path / "Train.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    written(tmp_path, "\n".join([HEADER, *ROWS[:4]]), "test.csv")
    written(tmp_path, "About these data, and\nwho made them, and when", "readme.txt")
    raw = read(tmp_path)
    assert raw.inputs_test is not None
    assert (len(raw.inputs_train), len(raw.inputs_test)) == (12, 4)


def test_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    written(tmp_path, PLAIN, "a.csv")
    written(tmp_path, PLAIN.replace("height", "size"), "b.csv")
    with pytest.raises(UsageError, match=r"b\.csv: column 'height' is not in both a\.csv and it"):
        read(tmp_path)
    written(tmp_path, PLAIN.replace("1.5", "tall"), "b.csv")
    with pytest.raises(UsageError, match=r"'height' is double in a\.csv, string in b\.csv"):
        read(tmp_path)


def with_column(name: str, cells: Callable[[int], Any]) -> str:
    rows = [f"{cells(number)},{row}" for number, row in enumerate(ROWS)]
    return "\n".join([f"{name},{HEADER}", *rows])


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("city", lambda i: "Rome" if i % 3 else "Oslo", "column 'city' of text: left out"),
        ("seen", lambda i: f"2026-01-{i + 1:02}", "column 'seen' of dates: left out"),
        ("number", lambda i: 901 + 37 * i, "column 'number' left out as an id"),
        ("patient_id", lambda i: i % 3, "column 'patient_id' left out as an id"),
        ("", lambda i: i, "column '' left out as an id"),
    ],
)
def test_what_cannot_be_an_input_is_left_out_and_said(
    tmp_path: Path, name: str, cells: Callable[[int], Any], said: str
) -> None:
    raw = read(written(tmp_path, with_column(name, cells)))
    assert raw.columns == ("age", "height")
    assert said in " ".join(raw.notes)
    left_out = read(tmp_path / "t.csv", leave_out=f"{name},age") if name else None
    assert left_out is None or (left_out.columns, left_out.notes) == (("height",), ())


def test_owners_and_labels_are_no_inputs(tmp_path: Path) -> None:
    path = written(tmp_path, with_column("clinic", lambda i: 5 + i % 3))
    raw = read(path, groups="clinic")
    assert raw.groups is not None
    assert (raw.columns, raw.groups.tolist()) == (("age", "height"), [0, 1, 2] * 4)


def test_an_id_that_is_asked_for_is_learnt_from_and_said(tmp_path: Path) -> None:
    raw = read(written(tmp_path, with_column("id", lambda i: i)), inputs="id, age")
    assert raw.columns == ("id", "age")
    assert "column 'id' looks like an id" in " ".join(raw.notes)


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (
            PLAIN,
            {"labels": "diagnosis"},
            "no column 'diagnosis'; the table has age, height, answer",
        ),
        (PLAIN, {"inputs": "age,weight"}, r"dataset.keys.inputs: no column 'weight'"),
        (PLAIN, {"leave_out": "weight"}, r"dataset.keys.leave_out: no column 'weight'"),
        (PLAIN, {"inputs": "answer"}, "'answer' holds text, which is an input of its own"),
        (PLAIN, {"leave_out": "age,height"}, r"no column of numbers .*\(no other column\)"),
        (
            "text,answer\nhi,1\nho,0\n",
            {},
            r"no column of numbers to learn from \(text: text\); for texts give dataset=text",
        ),
        (PLAIN.replace("1.7", ""), {}, r"'height': 1 of 12 cells are empty .* t\.csv, line 4\)"),
        (
            PLAIN.replace("1.7", "?"),
            {},
            r"'height': 1 of 12 .* \(the first is '\?' in t\.csv, line 4",
        ),
        (PLAIN.replace("1.7", "inf"), {}, r"first is example 2, in column 'height'"),
        (PLAIN.replace("no\n", ",\n", 1), {}, r"line 2 has 4 cells, and there are 3 column names"),
        (PLAIN.replace("no\n", "\n", 1), {}, r"'answer': 1 of 12 cells are empty .*line 2"),
        (PLAIN.replace("height", "age"), {}, "column 'age' is there twice"),
        ("\n".join(["1,2,0", "2,3,1"]), {}, r"has no line of column names .*1,2,0"),
        ("", {}, "is empty"),
        (HEADER, {}, "has no rows"),
        (with_column("seen", lambda i: f"2026-01-{i + 1:02}"), {"inputs": "seen"}, "holds dates"),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_one_line(
    tmp_path: Path, text: str, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        read(written(tmp_path, text), **keys)
    assert "\n" not in str(refusal.value)


def test_damaged_and_strange_files_are_one_line(tmp_path: Path) -> None:
    cut = gzip.compress(PLAIN.encode())[:-12]
    for name, content in (("t.csv.gz", cut), ("t.parquet", b"PAR1 and no more")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name}: cannot be") as refusal:
            read(tmp_path / name)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UsageError, match=r"type '.xlsx' are no tables; give .csv"):
        read(written(tmp_path, PLAIN, "t.xlsx"))
    rows = pa.table({"signal": [[1.0, 2.0]] * 4, "answer": [0, 1] * 2})
    pyarrow.parquet.write_table(rows, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"arrays and images are read by dataset=huggingface"):
        read(tmp_path / "t.parquet", inputs="signal")


def test_columns_that_were_chosen_are_said_to_come_from_private_data() -> None:
    table = ["dataset=table", "dataset.root=t.csv", "student=mlp", "teacher=mlp"]
    assert "dataset.keys.inputs" in derived_constants(compose_config(table))
    given = compose_config([*table, "dataset.keys.inputs='age,height'"])
    assert "dataset.keys.inputs" not in derived_constants(given)


def test_a_column_of_text_of_which_every_cell_is_a_number_is_one_of_numbers(tmp_path: Path) -> None:
    table = pa.table({"a": ["1", "2.5"], "answer": [0, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    keys = {"inputs": "a", "labels": "answer"}
    raw = read_raw(DatasetOptions("mine", "table", str(tmp_path / "a.parquet"), keys=keys))
    assert raw.inputs_train.tolist() == [[1.0], [2.5]]
