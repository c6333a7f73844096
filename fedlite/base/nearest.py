"""What was probably meant by a word that is not known."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """The known words that are most like ``word``, the likeliest first; empty where none is.

    Of names with dots those beside it are looked at first, then all, by their last part:
    ``epsilon`` finds ``privacy.epsilon``.

    >>> nearest("digts", ["digits", "mnist"]), nearest("rounds", ["federation.rounds", "seed"])
    (['digits'], ['federation.rounds'])
    """
    known = list(known)
    folder, _, last = word.rpartition(".")
    beside = [one for one in known if folder and one.rpartition(".")[0] == folder]
    if not beside and (whole := difflib.get_close_matches(word, known, n=count, cutoff=0.7)):
        return whole
    for place in (beside, known):
        lasts = {one.rpartition(".")[2] for one in place}
        if close := difflib.get_close_matches(last, lasts, n=1, cutoff=0.7):
            return [one for one in place if one.rpartition(".")[2] == close[0]][:count]
    return []


def did_you_mean(word: str, known: Iterable[str], *, count: int = 1) -> str:
    """``; did you mean digits?``, or nothing: the end of a line of error.

    >>> did_you_mean("digts", ["digits", "mnist"]), did_you_mean("x", ["digits"])
    ('; did you mean digits?', '')
    """
    close = nearest(word, known, count=count)
    return f"; did you mean {' or '.join(close)}?" if close else ""
