"""Tokenizers that are learnt from public text alone."""

from collections.abc import Sequence

from fedlite.serve.tokens import PAD_TOKEN, UNKNOWN_TOKEN

SPECIAL = [PAD_TOKEN, UNKNOWN_TOKEN]  # the first numbers, in this order

FEWEST_PIECES = len(SPECIAL) + 256  # each byte is a token

WORDS, PIECES, CHARACTERS = "words", "pieces", "characters"


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
        trainer = trainers.BpeTrainer(
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
