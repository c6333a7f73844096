"""Texts as numbers: what a tokenizer makes of them, where a model learns and where it serves."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import FedliteError

PAD, UNKNOWN = 0, 1  # the numbers of what fills up a short text, and of a token nobody knows
TOKENIZER = "tokenizer.json"  # in a bundle
PAD_TOKEN, UNKNOWN_TOKEN = "[PAD]", "[UNK]"
LONGEST = 100_000  # characters of a text that are looked at; a model sees far fewer tokens

Tokens = NDArray[np.int64]


def encode(tokenizer: str, texts: Sequence[str], length: int) -> Tokens:
    """``texts`` as numbers of tokens (n, length): cut at the end, filled up with :data:`PAD`.

    Args:
        tokenizer: the JSON of a ``tokenizers`` tokenizer (``tokenizer.json``).
        texts: any; what a tokenizer has no token for is :data:`UNKNOWN`.
        length: of every row.

    Raises:
        FedliteError: the JSON is no tokenizer.
    """
    found = np.full((len(texts), length), PAD, dtype=np.int64)
    shown = [text[:LONGEST] for text in texts]
    for row, encoding in enumerate(_opened(tokenizer).encode_batch(shown)):
        tokens = encoding.ids[:length]
        found[row, : len(tokens)] = tokens
    return found


def known_share(tokens: Tokens) -> float:
    """The share of tokens that are known, of all that are no filling; 0 where there are none."""
    real = tokens != PAD
    return float((real & (tokens != UNKNOWN)).sum() / max(1, real.sum()))


def words_of(tokenizer: str) -> list[str]:
    """The tokens in the order of their numbers.

    Raises:
        FedliteError: the JSON is no tokenizer.
    """
    vocabulary = _opened(tokenizer).get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


@lru_cache(maxsize=4)
def _opened(tokenizer: str):  # type: ignore[no-untyped-def]  # the library has no types
    """The tokenizer, without cutting and filling up of its own."""
    from tokenizers import Tokenizer

    try:
        opened = Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises bare exceptions
        raise FedliteError(f"{TOKENIZER}: no tokenizer, or damaged") from error
    opened.no_truncation()
    opened.no_padding()
    special = [opened.token_to_id(token) for token in (PAD_TOKEN, UNKNOWN_TOKEN)]
    if special != [PAD, UNKNOWN]:
        raise FedliteError(
            f"{TOKENIZER}: {PAD_TOKEN} and {UNKNOWN_TOKEN} must be tokens {PAD} and {UNKNOWN}"
        )
    return opened
