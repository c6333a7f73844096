"""Where noise and sampling get their randomness: secret by default, seeded for tests.

:class:`SecureRandomness` reads AES-256-CTR keyed from the operating system (``cryptography``), so
that no seed and no earlier output predicts the noise. Normals are Box-Muller, the sum of four
halved: the defence of Opacus' secure mode against floating-point attacks (Holohan and Braghin
2021, arXiv 2107.10138, section 5.1). :class:`DeterministicRandomness` repeats itself for a seed
and is NOT PRIVATE.
"""

import hashlib
import math
import os
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from torch import Tensor


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

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float64 values of ``shape``; add them in float64, round afterwards.

        Rounded first, what was added shows: sums of rounded noise lie on a grid that a
        contribution leaves (Mironov 2012).
        """

    def seed(self) -> int:
        """63 bits for a generator of others: torch's own, which dropout draws from."""


class SecureRandomness:
    """Cryptographically secure draws; every instance has a fresh 256-bit key."""

    def __init__(self) -> None:
        self._stream = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()

    def _unit(self, count: int) -> NDArray[np.float64]:
        words = np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, count: int) -> Tensor:
        """``count`` float64 values in [0, 1) with 53 random bits."""
        return torch.from_numpy(self._unit(count))

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float64 values of ``shape``: four Box-Muller normals, summed, halved."""
        count = math.prod(shape)
        radius = np.sqrt(-2.0 * np.log1p(-self._unit(2 * count)))
        angle = 2.0 * np.pi * self._unit(2 * count)
        four = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        summed = four.reshape(4, count).sum(axis=0) / 2.0
        return torch.from_numpy(summed).reshape(shape)

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

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float64 values of ``shape``."""
        return torch.randn(shape, dtype=torch.float64, generator=self._generator)

    def seed(self) -> int:
        """63 bits that follow from the seed and from how many were drawn; other draws stay."""
        self._seeds += 1
        return derive_seed(self._seed, "torch", self._seeds)


def make_randomness(mode: str, seed: int, purpose: str, *parts: int) -> Randomness:
    """Fresh secrets in ``mode`` secure; in deterministic, draws that (seed, purpose, parts) fix."""
    if mode == "secure":
        return SecureRandomness()
    return DeterministicRandomness(derive_seed(seed, purpose, *parts))
