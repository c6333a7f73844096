"""Tokenizers of others, such as a teacher's: cut to what the public texts hold.

What is left of one makes the same tokens of the public texts as before. Of others it makes the
tokens that are left, in smaller parts where it knows parts of words, or the unknown one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedlite.base.errors import UsageError
from fedlite.serve.tokens import LONGEST, PAD, PAD_TOKEN, UNKNOWN, UNKNOWN_TOKEN

Json = dict[str, Any]
KINDS = ("WordPiece", "WordLevel", "BPE", "Unigram")


def cut(tokenizer: str, texts: Sequence[str], vocabulary: int, where: str) -> str:
    """The JSON of ``tokenizer`` with the tokens that ``texts`` hold, and without those that frame a
    text.

    The two special tokens of :mod:`fedlite.serve.tokens` come first, then the others, the most
    frequent first, and those of one count as they stood. Byte pair encoding keeps the parts of
    which a token is put together, within the same number.

    Args:
        tokenizer: the JSON of a ``tokenizers`` tokenizer (``tokenizer.json``).
        texts: public.
        vocabulary: most tokens, the two special ones among them.
        where: the file, for errors.

    Raises:
        UsageError: it is no tokenizer, or of a kind that cannot be cut.
    """
    from tokenizers import Tokenizer

    try:
        opened, made = Tokenizer.from_str(tokenizer), json.loads(tokenizer)
    except Exception as error:  # the library raises bare exceptions
        raise UsageError(f"{where}: no tokenizer of the tokenizers library, or damaged") from error
    model = made["model"]
    if model.get("type") not in KINDS:
        raise UsageError(
            f"{where}: a tokenizer of kind {model.get('type')}; expected {', '.join(KINDS)}"
        )
    opened.no_truncation()
    opened.no_padding()
    encoded = opened.encode_batch([text[:LONGEST] for text in texts], add_special_tokens=False)
    special = {one["content"] for one in made["added_tokens"] if one["special"]}
    counts = Counter(token for encoding in encoded for token in encoding.ids)
    ranked = (
        opened.id_to_token(number)
        for number, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    apart = {None, *special, _unknown_of(model)}
    wanted = [token for token in ranked if token is not None and token not in apart]
    kept = _kept(wanted, _parts_of(model), vocabulary - 2)
    numbers = {PAD_TOKEN: PAD, UNKNOWN_TOKEN: UNKNOWN}
    numbers |= {token: number for number, token in enumerate(kept, start=2)}
    added = [
        {**one, "id": numbers[one["content"]]}
        for one in made["added_tokens"]
        if one["content"] in kept
    ]
    return json.dumps(
        made
        | {"model": _cut_model(model, numbers), "added_tokens": added}
        | dict.fromkeys(("truncation", "padding", "post_processor")),
        ensure_ascii=False,
    )


def unknown_token(tokenizer: str) -> str | None:
    """What a tokenizer calls what it does not know; None where it knows everything."""
    return _unknown_of(json.loads(tokenizer)["model"])


def _unknown_of(model: Json) -> str | None:
    if model["type"] == "Unigram":
        place = model.get("unk_id")
        return None if place is None else str(model["vocab"][place][0])
    found: str | None = model.get("unk_token")
    return found


def _parts_of(model: Json) -> Mapping[str, list[tuple[str, str]]]:
    """By a token of byte pair encoding, the pairs that are merged into it; empty of other kinds."""
    found: dict[str, list[tuple[str, str]]] = {}
    prefix = len(model.get("continuing_subword_prefix") or "")
    for merge in model.get("merges", ()):
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        found.setdefault(first + second[prefix:], []).append((first, second))
    return found


def _kept(
    wanted: Iterable[str], parts: Mapping[str, list[tuple[str, str]]], most: int
) -> dict[str, None]:
    """The first of ``wanted``, each with all of its parts, ``most`` or fewer, in order."""
    kept: dict[str, None] = {}
    for token in wanted:
        new: dict[str, None] = {}
        waiting = [token]
        while waiting:
            one = waiting.pop()
            if one not in kept and one not in new:
                new[one] = None
                waiting += [part for pair in parts.get(one, ()) for part in pair]
        if len(kept) + len(new) <= most:
            kept |= new
    return kept


def _cut_model(model: Json, numbers: Mapping[str, int]) -> Json:
    if model["type"] == "Unigram":
        scores = dict(model["vocab"])
        least = min(scores.values())
        vocab = [[token, scores.get(token, least)] for token in numbers]
        return model | {"vocab": vocab, "unk_id": UNKNOWN}
    cut: Json = model | {"vocab": dict(numbers), "unk_token": UNKNOWN_TOKEN}
    if model["type"] == "BPE":
        prefix = len(model.get("continuing_subword_prefix") or "")
        merges = [one.split(" ") if isinstance(one, str) else list(one) for one in model["merges"]]
        cut["merges"] = [
            [first, second] for first, second in merges if first + second[prefix:] in numbers
        ]
    return cut
