"""The one error rate that all statistical tests of an audit share.

It is divided once and for all (Bonferroni): lower bounds get most of it, in equal parts over units
of privacy and what is attacked (and, within one, over the numbers of guesses); the checks of what
ran, which see far more, share the rest. Parts are counted whether they run or not, so that results
that were found in several calls hold together as well.
"""

from fedlite.audit.audited import Audited

ERROR_RATE = 0.05
SHARE_OF_BOUNDS = 0.8
BOUNDS_OF_CANARIES = 2  # of one unit: in the run's student, and in the one-hot layer
BOUNDS_OF_MEMBERSHIP = 2  # of students as trained, and compressed
CHECKS_OF_CANARIES = 2 * 4 + 4
"""Of one unit: noise, fresh noise, push and evenness in both, and neighbours, shape, sampling and
counting in the layer."""


def error_of_bound(config: Audited) -> float:
    """The probability with which one lower bound may lie above the truth."""
    bounds = _units(config) * BOUNDS_OF_CANARIES + BOUNDS_OF_MEMBERSHIP
    return ERROR_RATE * SHARE_OF_BOUNDS / bounds


def error_of_check(config: Audited) -> float:
    """The p-value below which one check fails."""
    return ERROR_RATE * (1 - SHARE_OF_BOUNDS) / (_units(config) * CHECKS_OF_CANARIES)


def _units(config: Audited) -> int:
    return config.privacy.example_level + config.privacy.client_level or 1
