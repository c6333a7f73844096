"""Which sign parts the cells of a csv."""

import re

DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')


def delimiter_of(first_line: str) -> str:
    """The sign that the first line has most outside quotes; a comma where it has none.

    >>> delimiter_of('age;"weight, kg";pulse'), delimiter_of("text")
    (';', ',')
    """
    outside = _QUOTED.sub("", first_line)
    return max(DELIMITERS, key=outside.count)
