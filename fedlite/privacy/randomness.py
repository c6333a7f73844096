"""Where noise and sampling get their randomness: secret by default, seeded for tests.

:class:`SecureRandomness` reads AES-256-CTR keyed from the operating system (``cryptography``), so
that no seed and no earlier output predicts the noise. Normals are Box-Muller, the sum of four
halved: the defence of Opacus' secure mode against floating-point attacks (Holohan and Braghin
2021, arXiv 2107.10138, section 5.1). The four are both halves of two pairs, and of a pair
r cos a + r sin a = sqrt(2) r sin(a + pi/4), where a + pi/4 is as uniform an angle as a: so one
sine a pair is enough, and a normal still takes two radii and two angles of 53 bits each, which no
other normal shares. :class:`DeterministicRandomness` repeats itself for a seed and is NOT PRIVATE.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Protocol

import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from torch import Tensor

Shape = tuple[int, ...]

NORMALS_AT_ONCE = 8192  # what they are made of fits the cache of a core
_BITS = 53  # of a uniform value: as many as a float64 has
_BLOCK = 16  # bytes, of AES


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

    def _words(self, count: int) -> Tensor:
        """``count`` float64 values, whole numbers from 0 to 2^53 - 1, all equally likely."""
        stream = bytearray(8 * count + _BLOCK - 1)  # as long as the cipher asks for
        self._stream.update_into(bytes(8 * count), stream)
        words = torch.frombuffer(stream, dtype=torch.int64, count=count)
        return words.bitwise_and_((1 << _BITS) - 1).double()

    def uniform(self, count: int) -> Tensor:
        """``count`` float64 values in [0, 1) with 53 random bits."""
        return self._words(count).mul_(2.0**-_BITS) if count else torch.empty(0).double()

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal float64 values of ``shape``: four Box-Muller normals, summed, halved."""
        flat = torch.empty(math.prod(shape), dtype=torch.float64)
        for part in torch.split(flat, NORMALS_AT_ONCE) if len(flat) else ():
            radius, angle = self._words(4 * len(part)).chunk(2)
            # Above 0 and at most 1, where the logarithm is finite.
            radius.add_(1.0).mul_(2.0**-_BITS).log_().mul_(-1.0).sqrt_()
            halves = angle.mul_(2.0**-_BITS * math.tau).sin_().mul_(radius)
            torch.add(*halves.chunk(2), out=part)
        return flat.reshape(shape)

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


def _parted(flat: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    """``flat`` as tensors of ``shapes``, in order."""
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    return tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))


def make_randomness(mode: str, seed: int, purpose: str, *parts: int) -> Randomness:
    """Fresh secrets in ``mode`` secure; in deterministic, draws that (seed, purpose, parts) fix."""
    if mode == "secure":
        return SecureRandomness()
    return DeterministicRandomness(derive_seed(seed, purpose, *parts))
