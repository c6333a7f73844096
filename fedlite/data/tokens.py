"""Tokenizers that public texts alone decide, learnt or cut, and texts as numbers."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.base.pretrained import read_tokenizer
from fedlite.data.draws import Rows
from fedlite.data.given_tokenizer import cut
from fedlite.data.options import TextOptions
from fedlite.data.raw import RawData
from fedlite.data.types import Tokens
from fedlite.serve.tokens import (
    PAD,
    PAD_TOKEN,
    UNKNOWN_TOKEN,
    encode,
    known_share,
    words_of,
)

log = logging.getLogger(__name__)

SPECIAL = [PAD_TOKEN, UNKNOWN_TOKEN]  # the first numbers, in this order

FEWEST_PIECES = len(SPECIAL) + 256  # each byte is a token

WORDS, PIECES, CHARACTERS = LEARNT = ("words", "pieces", "characters")

COVERED = 95  # per cent of the public texts that are seen whole, where no length is given
MOST_TOKENS = 128  # of a text, where no length is given
FEW_KNOWN = 0.5  # the share of known tokens below which a user is told


def tokenized(
    raw: RawData, public: Rows, validation: Rows, options: TextOptions
) -> tuple[RawData, Tokens]:
    """Texts as numbers (n, length) of the tokens that the public ones hold.

    Args:
        raw: checked, of texts.
        public: rows of the training part from which vocabulary and length are learnt.
        validation: public rows that tell how many tokens of other texts are known.
        options: what a token is.

    Raises:
        UsageError: there is nothing to learn from the public texts, or no room for the tokens; or
            the tokenizer that was given cannot be read.
    """
    kind = options.tokenizer or WORDS
    if kind == PIECES and options.vocabulary < FEWEST_PIECES:
        raise UsageError(
            f"dataset.text.vocabulary={options.vocabulary}: must be {FEWEST_PIECES} or more with"
            " dataset.text.tokenizer=pieces, where every byte is a token"
        )
    texts = list(raw.inputs_train[public])
    if kind in LEARNT:
        tokenizer = learn_tokenizer(texts, kind, options.vocabulary, lowercase=options.lowercase)
    else:
        tokenizer = cut(given_tokenizer(kind), texts, options.vocabulary, kind)
    vocabulary = len(words_of(tokenizer))
    train = encode(tokenizer, list(raw.inputs_train), options.length or MOST_TOKENS)
    lengths = (train[public] != PAD).sum(axis=1)
    if vocabulary <= len(SPECIAL) or not lengths.any():
        if kind not in LEARNT:
            raise UsageError(f"{kind}: knows no token of {len(texts)} public texts; give another")
        raise UsageError(
            f"dataset: nothing to learn from {len(texts)} public texts: no token occurs twice; give"
            " more of them (dataset.public_size), or dataset.text.tokenizer=characters"
        )
    length = options.length or max(1, int(np.percentile(lengths, COVERED, method="higher")))

    train = np.ascontiguousarray(train[:, :length])
    test = None if raw.inputs_test is None else encode(tokenizer, list(raw.inputs_test), length)
    known = known_share(train[validation])
    log.info(
        "%d tokens, of %d public texts; a model sees the first %d of a text, and knows"
        " %.1f%% of those in other public texts",
        vocabulary,
        len(texts),
        length,
        100 * known,
    )
    notes = raw.notes
    if known < FEW_KNOWN:
        unknown = (
            f"only {known:.0%} of the tokens in public validation texts are known; give more public"
            " texts (dataset.public_size), a larger dataset.text.vocabulary, or"
            " dataset.text.tokenizer=pieces"
        )
        notes = (*notes, unknown)
    made = replace(raw, inputs_train=train, inputs_test=test, notes=notes)
    return made, Tokens(tokenizer, vocabulary)


def given_tokenizer(name: str) -> str:
    """The JSON of the tokenizer that ``dataset.text.tokenizer`` names: a file, or in a folder.

    Raises:
        UsageError: nothing is there, or nothing that can be read.
    """
    try:
        return read_tokenizer(name)
    except UsageError as error:
        hint = did_you_mean(name, LEARNT)
        raise UsageError(f"dataset.text.tokenizer={name}: {error}{hint}") from error


def learn_tokenizer(texts: Sequence[str], kind: str, vocabulary: int, *, lowercase: bool) -> str:
    """The JSON of a tokenizer of at most ``vocabulary`` tokens, learnt from ``texts``.

    Equal texts give equal tokenizers, whatever their order is among equal counts.

    Args:
        texts: public; a vocabulary tells what they hold.
        kind: ``words`` (words and marks as they stand, the most frequent ones), ``pieces`` (byte
            pair encoding of Sennrich et al. 2016, on bytes: rare words in parts, and nothing is
            unknown) or ``characters``.
        vocabulary: with the two special tokens; for ``pieces`` at least :data:`FEWEST_PIECES`.
        lowercase: whether capitals are read as small letters.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    if kind == PIECES:
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_TOKEN))
        trainer: Any = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN_TOKEN))
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocabulary, special_tokens=SPECIAL, min_frequency=2, show_progress=False
        )
    forms = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(forms)
    tokenizer.pre_tokenizer = {
        WORDS: pre_tokenizers.Whitespace(),
        PIECES: pre_tokenizers.ByteLevel(add_prefix_space=True),
        CHARACTERS: pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
    }[kind]
    tokenizer.train_from_iterator(texts, trainer)
    made: str = tokenizer.to_str()
    return made
