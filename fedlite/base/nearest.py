"""What was probably meant by a word that is not known."""

import difflib
from collections.abc import Iterable
from pathlib import Path


def nearest(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """The known words that are most like ``word``, the likeliest first; empty where none is.

    One that differs in capitals alone is the likeliest.

    Of names with dots those beside it are looked at first, then all, by their last part:
    ``epsilon`` finds ``privacy.epsilon``.

    >>> nearest("digts", ["digits", "mnist"]), nearest("rounds", ["federation.rounds", "seed"])
    (['digits'], ['federation.rounds'])
    """
    known = list(known)
    if same := [one for one in known if one.casefold() == word.casefold()]:
        return same[:count]
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


def did_you_mean_file(path: Path) -> str:
    """:func:`did_you_mean` of a path that is not there: the nearest name beside it."""
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name.casefold(), [one.casefold() for one in names], n=1)
    meant = [name for name in names if name.casefold() in close]
    return f"; did you mean {path.with_name(meant[0])}?" if meant else ""
