"""A tokenizer of others, cut to public texts: the same tokens of those, and none to trip over."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from fedlite.base.errors import UsageError
from fedlite.data.given_tokenizer import KINDS, cut
from fedlite.data.options import TextOptions
from fedlite.data.types import Tokens
from fedlite.serve.tokens import PAD, UNKNOWN, encode, words_of
from tests.data.test_text import splits
from tests.pretrained import TEXTS, tokenizer_of

PUBLIC = TEXTS[:15]
ODD = ["", "   ", "日本 😀", "a" * 200_000, "[PAD] [CLS] <s> [UNK]", "THE CAT"]


def tokens(tokenizer: str, texts: list[str]) -> list[list[str]]:
    opened = Tokenizer.from_str(tokenizer)
    return [one.tokens for one in opened.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("kind", KINDS)
def test_public_texts_have_the_tokens_of_before_and_fewer_are_known(kind: str) -> None:
    whole = tokenizer_of(kind)
    made = cut(whole, PUBLIC, 2000, "tokenizer.json")
    assert tokens(made, PUBLIC) == tokens(whole, PUBLIC)
    assert UNKNOWN not in encode(made, PUBLIC, 20)
    known, words = set(Tokenizer.from_str(whole).get_vocab()), words_of(made)
    assert len(words) < len(known)
    assert set(words[2:]) < known
    assert len(made) < len(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_becomes_a_row_without_a_frame(kind: str) -> None:
    made = cut(tokenizer_of(kind), PUBLIC, 2000, "tokenizer.json")
    rows = encode(made, ODD, 8)
    assert (rows[:1] == PAD).all()
    assert rows.max() < len(words_of(made))
    assert rows[5].tolist()[:2] == encode(made, ["the cat"], 8)[0].tolist()[:2]
    assert PAD not in rows[4][:2]  # what stands for a token's name is no token


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_frequent_tokens_stay_where_there_is_room_for_few(kind: str) -> None:
    whole = tokenizer_of(kind)
    made = cut(whole, PUBLIC, 12, "tokenizer.json")
    words = words_of(made)
    assert len(words) <= 12
    assert words == words_of(cut(whole, PUBLIC[::-1], 12, "tokenizer.json"))
    rows = encode(made, PUBLIC, 20)
    assert ((rows != PAD) & (rows != UNKNOWN)).any()


def test_it_makes_the_inputs_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_of("WordPiece", ["common words here now"]))
    for given in (tmp_path, tmp_path / "tokenizer.json"):
        preprocessing = splits(tmp_path, tokenizer=str(given)).task.preprocessing
        assert isinstance(preprocessing, Tokens)
        words = words_of(preprocessing.tokenizer)
        assert preprocessing.vocabulary == len(words)
        assert {"common", "words", "here", "now"} <= set(words)
        assert json.loads(preprocessing.tokenizer)["post_processor"] is None


def test_what_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    for name, content in {"a.json": "{}", "b.json": "nonsense", "c.json": '{"model": {}}'}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match="no tokenizer of the tokenizers library, or damaged"):
            splits(tmp_path, tokenizer=str(tmp_path / name))
    with pytest.raises(UsageError, match=r"tokenizer=wrds: .*no such folder.*; did you mean words"):
        splits(tmp_path, tokenizer="wrds")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"tokenizer.json: no such file; AutoTokenizer"):
        splits(tmp_path, tokenizer=str(tmp_path / "empty"))
    strange = tokenizer_of("WordLevel", ["other things altogether"])
    (tmp_path / "d.json").write_text(strange)
    with pytest.raises(UsageError, match="knows no token of"):
        splits(tmp_path, tokenizer=str(tmp_path / "d.json"))


def test_words_are_what_is_taken_where_nothing_is_said(tmp_path: Path) -> None:
    assert TextOptions().tokenizer is None
    made = [splits(tmp_path, **said).task.preprocessing for said in ({}, {"tokenizer": "words"})]
    assert made[0] == made[1]
