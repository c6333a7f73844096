"""Texts that a shipped model is given: from files of every kind."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedlite.base.errors import UsageError
from fedlite.compress.bundle import preprocessing_of
from fedlite.serve.inputs import read_examples
from fedlite.serve.preprocessing import read_preprocessing
from fedlite.serve.texts import TextPreprocessing, read_texts
from tests.tasks import texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "The cat\n\n  sat on \n"),
        ("a.csv", 'label,text\n1,The cat\n2,"sat on"\n'),
        ("a.csv", "anything\nThe cat\nsat on\n"),
        ("a.csv", 'label;text;more\n1;The cat;a,b\n2;"sat on";c\n'),
        ("a.tsv", "label\ttext\n1\tThe cat\n2\tsat on\n"),
        ("a.jsonl", '{"text": "The cat", "more": 1}\n{"text": "sat on"}\n'),
    ],
)
def test_a_file_holds_texts_in_the_columns_of_the_training_data(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name, ("text",)) == ["The cat", "sat on"]


def test_a_parquet_holds_texts_in_the_columns_of_the_training_data(tmp_path: Path) -> None:
    table = {"label": [1, 2], "title": ["The", "sat"], "body": ["cat", "on"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", ("title", "body")) == ["The \n cat", "sat \n on"]
    with pytest.raises(UsageError, match="no column 'text'"):
        read_texts(tmp_path / "a.parquet", ("text",))


def test_other_columns_and_nothing_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two\nx,y\n")
    with pytest.raises(UsageError, match="no column 'text'"):
        read_texts(tmp_path / "a.csv", ("text",))
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(UsageError, match="holds no text"):
        read_texts(tmp_path / "a.txt", ("text",))


def test_a_bundle_says_how_texts_become_numbers(tmp_path: Path) -> None:
    task = texts(length=4)
    (tmp_path / "preprocessing.json").write_text(json.dumps(preprocessing_of(task)))
    with pytest.raises(UsageError, match=r"tokenizer.json: no such file"):
        read_preprocessing(tmp_path / "preprocessing.json")
    (tmp_path / "tokenizer.json").write_text(task.preprocessing.tokenizer)  # type: ignore[union-attr]
    made = read_preprocessing(tmp_path / "preprocessing.json")
    assert isinstance(made, TextPreprocessing)
    (tmp_path / "a.txt").write_text("the cat sat on a mat\nzebra\n")
    found = read_examples(tmp_path / "a.txt", made, name="a.txt", invert=False)
    assert found.names == ["a.txt:1", "a.txt:2"]
    assert found.raw.shape == (2, 4)
    assert found.raw[1].tolist() == [1, 0, 0, 0]
