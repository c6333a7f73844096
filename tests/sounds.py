"""Sounds made up for tests."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 8000
INTEGERS, FLOATS, MU_LAW, EXTENSIBLE = 1, 3, 7, 0xFFFE


def tone(frequency: float, samples: int = RATE, rate: int = RATE) -> NDArray[np.float64]:
    """A sine at half of full scale."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


def wav(data: bytes, *, form: int, bits: int, rate: int = RATE, channels: int = 1) -> bytes:
    """A wav file around samples as they stand."""
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", form, channels, rate, rate * frame, frame, bits)
    if form == EXTENSIBLE:  # with the format of its samples where it belongs
        header += struct.pack("<HHIH14s", 22, bits, 0, INTEGERS, b"")
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header
    body += b"LIST" + struct.pack("<I", 3) + b"odd\0"  # an odd chunk, and its filling
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def write_wav(path: Path, values: NDArray[np.float64], rate: int = RATE) -> Path:
    """Samples from -1 to 1, (n,) or (n, channels), in 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.clip(values * 2**15, -(2**15), 2**15 - 1).astype("<i2").tobytes()
    channels = 1 if values.ndim == 1 else values.shape[1]
    path.write_bytes(wav(data, form=INTEGERS, bits=16, rate=rate, channels=channels))
    return path
