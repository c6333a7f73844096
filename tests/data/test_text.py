"""Texts as data: the source, and the tokenizer that public texts alone decide."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions, PartitionOptions, TextOptions
from fedlite.data.raw import read_raw
from fedlite.data.splits import Splits, load_splits
from fedlite.data.tokens import learn_tokenizer
from fedlite.data.types import Tokens
from fedlite.serve.tokens import PAD, UNKNOWN, encode, words_of

CSV = 'text,label\n"Hello, world",b\n"two\nlines",a\nNA,b\n"",a\n'
WANTED = ["Hello, world", "two\nlines", "NA", ""]


def options(root: Path, **more: Any) -> DatasetOptions:
    given: dict[str, Any] = {"keys": {"inputs": "text", "labels": "label"}, **more}
    return DatasetOptions(name="mine", source="text", root=str(root), **given)


def write(folder: Path, kind: str) -> Path:
    path = folder / f"data.{kind}"
    records = [
        {"text": text, "label": label}
        for text, label in zip(WANTED, ["b", "a", "b", "a"], strict=True)
    ]
    if kind == "csv":
        path.write_text(CSV, encoding="utf-8-sig")
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    elif kind == "tsv":
        path.write_text(
            CSV.replace("text,label", "text\tlabel").replace('",', '"\t').replace("NA,", "NA\t")
        )
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)) + "\n")
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_texts_are_read_as_they_stand(kind: str, tmp_path: Path) -> None:
    raw = read_raw(options(write(tmp_path, kind)))
    assert raw.inputs_train.tolist() == WANTED
    assert raw.class_names == ("a", "b")
    assert raw.labels_train.tolist() == [1, 0, 1, 0]


def test_columns_are_put_together_and_files_make_the_parts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,body,label,who\nOne,two,0,x\nThree,four,1,y\n")
    (tmp_path / "b.csv").write_text("title,body,label\nFive,six,1\n")
    keys = {"inputs": "title, body", "labels": "label", "groups": "who"}
    raw = read_raw(options(tmp_path, keys=keys, files={"train": "a.csv", "test": "b.csv"}))
    assert [text.split() for text in raw.inputs_train] == [["One", "two"], ["Three", "four"]]
    assert raw.groups is not None
    assert raw.groups.tolist() == [0, 1]
    assert raw.inputs_test is not None
    assert len(raw.inputs_test) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label\na,b,c\n", "row 1 has 3 cells, the first line 2"),
        (
            "a.csv",
            "words,label\na,b\n",
            r"no column 'text' \(dataset.keys.inputs\); has words, label",
        ),
        ("a.csv", "text,label\na,\n", "column 'label': 1 rows are empty"),
        ("a.csv", "text,text\na,b\n", "two columns have one name"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', "column 'text' holds int beside text"),
        ("a.jsonl", '{"text": 0, "label": 1}\n', "column 'text' holds int beside text"),
        ("a.jsonl", '{"label": 1}\n{"text": "a", "label": 1}\n', "1 rows are empty"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", "nonsense\n", "line 1 is no JSON object"),
        ("a.parquet", "nonsense", "cannot be loaded; it is damaged, or no parquet file"),
        ("a.csv.gz", "nonsense", "cannot be read"),
        ("a.docx", "nonsense", "of unknown kind; expected csv, tsv or jsonl"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=said):
        read_raw(options(tmp_path / name))


# --- the tokenizer ----------------------------------------------------------------------------


def splits(folder: Path, **text: Any) -> Splits:
    """Eighty texts of six words in two classes, half of them public."""
    lines = [f'"common words number {i % 7} here now",{i % 2}' for i in range(80)]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    config = options(folder / "data.csv", public_size=40, text=TextOptions(**text))
    return load_splits(config, PartitionOptions("iid"), 2, seed=0)


def test_a_tokenizer_is_learnt_from_public_texts_alone(tmp_path: Path) -> None:
    config = options(tmp_path / "data.csv", public_size=20)

    def tokenizer(private: str) -> str:
        made = load_splits(config, PartitionOptions("iid"), 2, seed=0)
        owners = {int(row) for rows in made._rows for row in rows}
        lines = [
            f'"the same words {private if i in owners else "again"} and again",{i % 2}'
            for i in range(60)
        ]
        (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
        again = load_splits(config, PartitionOptions("iid"), 2, seed=0)
        assert {int(row) for rows in again._rows for row in rows} == owners
        assert isinstance(again.task.preprocessing, Tokens)
        return again.task.preprocessing.tokenizer

    lines = [f'"the same words again and again",{i % 2}' for i in range(60)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    public = tokenizer("again")
    assert "again" in words_of(public)
    assert tokenizer("secret secret words of one") == public


@pytest.mark.parametrize("kind", ["words", "pieces", "characters"])
def test_equal_texts_in_any_order_give_equal_tokenizers(kind: str) -> None:
    some = [f"number {i} of {i * i} is Ünïcode, 日本 😀 and don't" for i in range(50)] * 2
    made = {learn_tokenizer(order, kind, 400, lowercase=True) for order in (some, some[::-1])}
    assert len(made) == 1


@pytest.mark.parametrize("kind", ["words", "pieces", "characters"])
def test_any_text_becomes_a_row(kind: str) -> None:
    tokenizer = learn_tokenizer(
        ["a small vocabulary, of a few words"] * 3, kind, 300, lowercase=True
    )
    rows = encode(tokenizer, ["", "   ", "日本 😀", "a" * 200_000, "A few WORDS"], 8)
    assert rows.shape == (5, 8)
    assert (rows[:1] == PAD).all()
    assert rows.max() < len(words_of(tokenizer))
    if kind == "words":
        assert rows[2].tolist()[:2] == [UNKNOWN, UNKNOWN]
        assert UNKNOWN not in rows[4]


def test_what_cannot_be_learnt_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vocabulary=100: must be 258 or more"):
        splits(tmp_path, tokenizer="pieces", vocabulary=100)
    lines = [f"word{i},{i % 2}" for i in range(40)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    config = options(tmp_path / "data.csv", public_size=20)
    with pytest.raises(UsageError, match="no token occurs twice"):
        load_splits(config, PartitionOptions("iid"), 2, seed=0)


def test_length_and_inputs_follow_from_the_options(tmp_path: Path) -> None:
    made = splits(tmp_path)
    assert made.task.input_shape == (6,)
    assert splits(tmp_path, length=3).task.input_shape == (3,)
    inputs = made.client(0).inputs
    assert inputs.dtype == made.public.inputs.dtype == made.test.inputs.dtype
    assert (made.task.input_type, made.task.blank(2).tolist()) == ("int64", [[PAD] * 6] * 2)


def test_owners_that_are_missing_are_refused(tmp_path: Path) -> None:
    """All of them would be one person, who has one budget."""
    (tmp_path / "a.csv").write_text("text,label,who\na,0,x\nb,1,\n")
    keys = {"inputs": "text", "labels": "label", "groups": "who"}
    with pytest.raises(UsageError, match=r"natural ids: 1 of 2 are missing"):
        read_raw(options(tmp_path / "a.csv", keys=keys))


def test_a_test_file_lies_beside_the_file_of_the_training_part(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\na,0\nb,1\n")
    raw = read_raw(options(tmp_path / "a.csv", files={"train": "", "test": "b.csv"}))
    assert raw.inputs_test is not None
