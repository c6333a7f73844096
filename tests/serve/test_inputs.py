"""Files and folders of examples: what is read, in which order, and what is refused."""

import gzip
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.inputs import files_of, read_examples, refuse_what_does_not_fit
from fedlite.serve.preprocessing import Preprocessing

PICTURES = Preprocessing((1, 2, 3), 255.0, (0.2,), (0.3,))
SERIES = Preprocessing((2, 3), 1.0, (0.0, 5.0), (1.0, 2.0))
TABLE = Preprocessing((2,), 1.0, (0.0, 0.0), (1.0, 1.0), columns=("age", "weight"))
VECTOR = Preprocessing((4,), 1.0, (0.0,) * 4, (1.0,) * 4)


def rows(path: Path, preprocessing: Preprocessing, *, invert: bool = False) -> np.ndarray:
    return read_examples(path, preprocessing, name="x", invert=invert).raw


def test_a_folder_stands_for_what_can_be_read_below_it(tmp_path: Path) -> None:
    for name in ("b.png", "cats/a.JPG", "z.csv", "notes.txt", ".hidden.png", ".git/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in files_of([tmp_path])]
    assert found == ["b.png", "cats/a.JPG", "z.csv"]


def test_what_is_not_there_or_of_no_use_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path, words in (
        (tmp_path, "nothing to predict there; give png"),
        (tmp_path / "none.png", "no such file or folder"),
        (tmp_path / "notes.txt", "unknown kind .txt"),
    ):
        with pytest.raises(UsageError, match=rf"{re.escape(str(path))}: {words}"):
            files_of([path])


@pytest.mark.parametrize("preprocessing", [SERIES, VECTOR], ids=["series", "vector"])
def test_a_picture_for_a_model_of_something_else_is_refused(preprocessing: Preprocessing) -> None:
    with pytest.raises(UsageError, match=r"a\.png: is a picture, and this model takes (se|ro)"):
        refuse_what_does_not_fit([Path("a.png")], preprocessing, invert=False)
    with pytest.raises(UsageError, match="invert: only of pictures"):
        refuse_what_does_not_fit([Path("a.npy")], preprocessing, invert=True)
    refuse_what_does_not_fit([Path("a.npy")], preprocessing, invert=False)


def test_an_npy_holds_one_example_or_many(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    many = np.arange(30.0).reshape(5, 2, 3)
    for stored, count in ((many, 5), (many[0], 1), (many.reshape(5, 6), 5)):
        np.save(path, stored)
        np.testing.assert_array_equal(rows(path, SERIES), many[:count])
    np.save(path, np.arange(4))
    np.testing.assert_array_equal(rows(path, VECTOR), [[0, 1, 2, 3]])
    np.save(path, np.array(["a"]))
    with pytest.raises(UsageError, match="it must hold finite numbers"):
        rows(path, VECTOR)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(FedliteError, match="not an npy file of numbers, or damaged"):
        rows(path, VECTOR)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_csv_may_begin_with_a_mark_or_a_header_and_be_zipped(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / ("x.csv.gz" if zipped else "x.csv")
    for text in ("1,2,3,4\n5,6,7,8\n", "\ufeff1,2,3,4\n5,6,7,8", "a,b,c,d\n1,2,3,4\n5,6,7,8\n"):
        content = text.encode()
        path.write_bytes(gzip.compress(content) if zipped else content)
        np.testing.assert_array_equal(rows(path, VECTOR), [[1, 2, 3, 4], [5, 6, 7, 8]])
    path.write_bytes(b"\x1f\x8bno archive")
    with pytest.raises(FedliteError, match="not a csv file, or damaged"):
        rows(path, VECTOR)


def test_a_first_line_of_broken_numbers_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2,nan,4\n5,6,7,8\n")
    with pytest.raises(UsageError, match="line 1 holds 'nan', which is no finite number"):
        rows(tmp_path / "x.csv", VECTOR)


def test_arrays_of_pictures_are_inverted_in_their_own_range(tmp_path: Path) -> None:
    pixels = np.array([[0, 100, 255], [3, 2, 1]], np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for name in ("x.npy", "x.png"):
        found = rows(tmp_path / name, PICTURES, invert=True)
        np.testing.assert_allclose(found[0, 0], 255.0 - pixels, atol=1e-3)


@pytest.mark.parametrize(
    "content",
    [
        "age,weight\n1.5,-2\n3,4e1\n",
        "who;weight;age\nx;-2;1,5\ny;4e1;3\n",
        "age\tmore\tweight\n1,5\t\t-2\n3\t7\t40\n",
        "1.5|-2\n3|40\n",
        "a;b\n1,5;-2,0\n3;40\n",
        "age,2019,weight\n1.5,True,-2\n3,false,40\n",
    ],
)
def test_a_table_of_any_dialect_is_read_by_the_names_of_its_columns(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(content)
    found = read_examples(tmp_path / "a.csv", TABLE, name="a.csv", invert=False)
    assert found.raw.tolist() == [[1.5, -2.0], [3.0, 40.0]]


def written(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", weight=[-2, 40], name=["x", None], age=[1.5, 3.0])
    found = read_examples(path, TABLE, name="a.parquet", invert=False)
    assert found.raw.tolist() == [[1.5, -2.0], [3.0, 40.0]]
    assert found.names == ["a.parquet:1", "a.parquet:2"]
    smokes = written(tmp_path / "a.pq", **{"0": [True, False], "1": [Decimal("1.5"), Decimal(2)]})
    assert rows(smokes, TABLE).tolist() == [[1.0, 1.5], [0.0, 2.0]], "as they come"


def test_a_parquet_that_does_not_fit_says_where(tmp_path: Path) -> None:
    cases = (
        ({"age": [1.5, 3.0]}, r"lacks 1 of the model's 2 columns, such as 'weight'"),
        ({"age": [1.5, None], "weight": [1, 2]}, r"row 2 holds '', which is no finite number"),
        ({"a": [1.5], "b": [1], "c": [2]}, r"row 1 has 3 values; expected 2"),
    )
    for columns, words in cases:
        with pytest.raises(UsageError, match=words):
            rows(written(tmp_path / "a.parquet", **columns), TABLE)
    (tmp_path / "b.parquet").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"b\.parquet: cannot be loaded; it is damaged"):
        rows(tmp_path / "b.parquet", TABLE)


def test_a_parquet_holds_one_array_in_each_row(tmp_path: Path) -> None:
    many = np.arange(12.0).reshape(2, 2, 3)
    path = written(tmp_path / "a.parquet", label=[0, 1], signal=many.tolist())
    np.testing.assert_array_equal(rows(path, SERIES), many)
    for columns, words in (
        ({"signal": [[1.0], [1.0, 2.0]]}, "column 'signal' must hold numbers, as many in each row"),
        ({"a": [[1.0]], "b": [[2.0]]}, "columns 'a', 'b' hold arrays; give a file with one"),
    ):
        with pytest.raises(UsageError, match=words):
            rows(written(tmp_path / "b.parquet", **columns), SERIES)


def test_a_table_that_lacks_a_column_says_which(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age;height\n1;2\n")
    with pytest.raises(UsageError, match=r"lacks 1 of the model's 2 columns, such as 'weight'"):
        read_examples(tmp_path / "a.csv", TABLE, name="a.csv", invert=False)


def test_truth_is_read_as_a_table_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("2019,smoker\n1.5,True\n2,false\n")
    known = Preprocessing((2,), 1.0, (0.0, 0.0), (1.0, 1.0), columns=("2019", "smoker"))
    found = read_examples(tmp_path / "a.csv", known, name="a.csv", invert=False)
    assert found.raw.tolist() == [[1.5, 1.0], [2.0, 0.0]]
