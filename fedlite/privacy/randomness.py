"""Where noise and sampling get their randomness: secret by default, seeded for tests.

:class:`SecureRandomness` reads AES-256-CTR keyed from the operating system (``cryptography``), so
that no seed and no earlier output predicts the noise. A normal is the sum of four, halved: the
defence of Opacus' secure mode against floating-point attacks (Holohan and Braghin 2021, arXiv
2107.10138, section 5.1). Four normals are a vector of squared length -2 ln(u1 u2) and of uniform
direction, and their halved sum is its component along (1, 1, 1, 1) / 2, which is spread as every
component is: as its length times sqrt(u3) sin(2 pi u4). So one logarithm, one root and one sine
make the sum, and of four uniform values of 52 bits each, which no other normal shares.
:class:`DeterministicRandomness` repeats itself for a seed and is NOT PRIVATE.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from torch import Tensor

Shape = tuple[int, ...]

NORMALS_AT_ONCE = 8192  # what they are made of fits the cache of a core
_WORD, _BLOCK = 8, 16  # bytes: of a float64, and of AES
_FRACTION, _ONE = (1 << 52) - 1, 1023 << 52  # of a float64's bits: the fraction; 1.0
_ZEROS = memoryview(bytes(4 * NORMALS_AT_ONCE * _WORD))  # enciphered, the bare stream


def derive_seed(seed: int, purpose: str, *parts: int) -> int:
    """A 63-bit seed for one purpose (and client, round, ...), independent of all others.

    No generator runs on from one use to the next, so that order, workers and resumption do not
    change a draw.
    """
    text = ":".join([str(seed), purpose, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Randomness(Protocol):
    """A source of the two draws that DP-SGD needs."""

    def uniform(self, count: int) -> Tensor:
        """``count`` float64 values in [0, 1)."""

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal float64 values of ``shape``; add them in float64, round afterwards.

        Rounded first, what was added shows: sums of rounded noise lie on a grid that a
        contribution leaves (Mironov 2012).
        """

    def normals(self, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        """:meth:`normal` of each of ``shapes``, all independent."""

    def seed(self) -> int:
        """63 bits for a generator of others: torch's own, which dropout draws from."""


class SecureRandomness:
    """Cryptographically secure draws; every instance has a fresh 256-bit key."""

    def __init__(self) -> None:
        self._stream = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()

    def _values(self, zeros: bytes | memoryview, stream: bytearray) -> NDArray[np.float64]:
        """A float64 in [1, 2) for each word of ``zeros``, of 52 random bits, within ``stream``."""
        length = self._stream.update_into(zeros, stream)
        words = np.frombuffer(stream, np.int64, length // _WORD)
        words &= _FRACTION
        words |= _ONE
        return words.view(np.float64)

    def uniform(self, count: int) -> Tensor:
        """``count`` float64 values in [0, 1) with 52 random bits."""
        return torch.from_numpy(self._values(bytes(count * _WORD), _stream_of(count)) - 1.0)

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal float64 values of ``shape``: the sums of four normals, halved."""
        flat = np.empty(math.prod(shape))
        stream = _stream_of(4 * min(len(flat), NORMALS_AT_ONCE))
        for first in range(0, len(flat), NORMALS_AT_ONCE):
            part = flat[first : first + NORMALS_AT_ONCE]
            values = self._values(_ZEROS[: 4 * part.nbytes], stream).reshape(4, len(part))
            values[:3] -= 2.0  # to [-1, 0), where a product of two has a logarithm
            square, other, share, angle = values
            square *= other
            torch.from_numpy(square).log_()  # numpy's own logarithms and sines are slower
            square *= share
            square *= 2.0
            angle *= math.tau
            torch.from_numpy(angle).sin_()
            np.multiply(np.sqrt(square, out=square), angle, out=part)
        return torch.from_numpy(flat).reshape(shape)

    def normals(self, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        """:meth:`normal` of each of ``shapes``, out of one pass."""
        return _parted(self.normal((sum(map(math.prod, shapes)),)), shapes)

    def seed(self) -> int:
        """63 secret bits."""
        return int.from_bytes(self._stream.update(bytes(8)), "big") >> 1


class DeterministicRandomness:
    """Seeded draws for tests and debugging. NOT PRIVATE."""

    def __init__(self, seed: int) -> None:
        self._seed, self._seeds = seed, 0
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int) -> Tensor:
        """``count`` float64 values in [0, 1)."""
        return torch.rand(count, dtype=torch.float64, generator=self._generator)

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal float64 values of ``shape``."""
        return torch.randn(shape, dtype=torch.float64, generator=self._generator)

    def normals(self, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        """:meth:`normal` of each of ``shapes``, one after the other."""
        return tuple(map(self.normal, shapes))

    def seed(self) -> int:
        """63 bits that follow from the seed and from how many were drawn; other draws stay."""
        self._seeds += 1
        return derive_seed(self._seed, "torch", self._seeds)


def _stream_of(words: int) -> bytearray:
    """Room for ``words`` of key stream, as long as the cipher asks for."""
    return bytearray(words * _WORD + _BLOCK - 1)


def _parted(flat: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    """``flat`` as tensors of ``shapes``, in order."""
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    return tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))


def make_randomness(mode: str, seed: int, purpose: str, *parts: int) -> Randomness:
    """Fresh secrets in ``mode`` secure; in deterministic, draws that (seed, purpose, parts) fix."""
    if mode == "secure":
        return SecureRandomness()
    return DeterministicRandomness(derive_seed(seed, purpose, *parts))
