"""Cosine and logarithm of which every bit is fixed: by sums, products and quotients alone.

IEEE 754 rounds these in one way, while the functions of mathematical libraries differ in their
last bits from machine to machine. The page has the same functions (``exact.js``).
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PI = 3.141592653589793
LN_2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
COSINE_TERMS = 12  # of the Taylor series, to pi / 2 within 1e-16
LOG_TERMS = 11  # of the series of artanh, to (sqrt(2) - 1) / (sqrt(2) + 1) within 1e-17


def cosine(numerator: NDArray[Any], denominator: int) -> Array:
    """``cos(2 pi numerator / denominator)`` of whole numbers, by the Taylor series around 0."""
    part = np.abs(np.asarray(numerator, dtype=np.int64)) % denominator
    part = np.minimum(part, denominator - part)  # within half a turn
    beyond = 4 * part > denominator
    within = np.where(beyond, denominator - 2 * part, 2 * part)  # a quarter, in units of pi
    angle = within * PI / denominator
    square = angle * angle
    series = np.ones_like(square)
    for term in range(COSINE_TERMS, 0, -1):
        series = 1.0 - series * square / float((2 * term - 1) * (2 * term))
    found: Array = np.where(beyond, -series, series)
    return found


def logarithm(values: Array) -> Array:
    """The natural logarithm of positive normal numbers: ``2 artanh((m - 1) / (m + 1))`` of a
    number ``m`` near 1, and whole multiples of ``ln 2``."""
    mantissa, exponent = np.frexp(values)
    small = mantissa < SQRT_HALF
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    exponent = np.where(small, exponent - 1, exponent)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    terms = [1.0 / (2 * term + 1) for term in range(LOG_TERMS - 1, -1, -1)]
    series = reduce(lambda sum_, term: sum_ * square + term, terms, np.zeros_like(square))
    found: Array = exponent * LN_2 + 2.0 * ratio * series
    return found
