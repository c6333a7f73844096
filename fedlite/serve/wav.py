"""Samples out of a wav file, as whole numbers of 16 bits; the page does the same (``wav.js``)."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import FedliteError
from fedlite.serve.resample import LEVELS, Double, Samples, as_levels

INTEGERS, FLOATS, EXTENSIBLE = 1, 3, 0xFFFE  # formats of samples
COMPRESSED = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM", 0x55: "MP3"}
UNKNOWN = 0xFFFFFFFF  # bytes of data, as who writes to a pipe says
SLOWEST, FASTEST = 1_000, 384_000  # Hz
LOUDEST = 2.0  # of floats, where 1 is full scale: a little beyond it is usual
CONVERT = "convert it, such as with: ffmpeg -i FILE out.wav"


@dataclass(frozen=True, eq=False)
class Recording:
    """Samples (n,) as whole numbers from -2^15 to 2^15 - 1, channels averaged; their rate in Hz."""

    samples: Samples
    rate: int
    channels: int = 1


def read_wav(path: Path, option: str) -> Recording:
    """A wav file of whole numbers of 8, 16, 24 or 32 bits or of floats of 32 or 64.

    Raises:
        FedliteError: it is none, damaged, compressed, or holds no sound; names ``option``, which
            led to it.
    """
    where = f"{option}={path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FedliteError(f"{where}: cannot be read ({error.strerror or error})") from error
    chunks = _chunks(content, where)
    form, channels, rate, bits = _format(chunks.get(b"fmt ", b""), where)
    data = chunks.get(b"data", b"")
    frame = channels * bits // 8
    values = _values(data[: len(data) // frame * frame], form, bits).reshape(-1, channels)
    if not len(values):
        raise FedliteError(f"{where}: holds no sound: it has no samples")
    check_loudness(values / LEVELS, where)
    total = values[:, 0].copy()
    for channel in range(1, channels):  # in this order
        total += values[:, channel]
    return Recording(as_levels(total / channels), rate, channels)


def check_loudness(values: Double, where: str) -> None:
    """Refuse samples that are no numbers around -1 to 1.

    Raises:
        FedliteError: says what they are.
    """
    if not np.isfinite(values).all():
        raise FedliteError(f"{where}: holds samples that are not finite numbers")
    loudest = float(np.abs(values).max())
    if loudest > LOUDEST:
        raise FedliteError(
            f"{where}: holds samples up to {loudest:g}; floats must lie between -1 and 1"
        )


def _chunks(content: bytes, where: str) -> dict[bytes, bytes]:
    """The parts of a RIFF file by name, the first of each. Data may be of a length that was not
    known when the header was written; other data that are cut off are refused."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise FedliteError(f"{where}: is no wav file; {CONVERT}")
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        place += 8
        end = len(content) if (name, size) == (b"data", UNKNOWN) else place + size
        if end > len(content) and name == b"data":
            missing = end - len(content)
            raise FedliteError(f"{where}: is cut off: {missing:,} of {size:,} bytes are not there")
        found.setdefault(name, content[place:end])
        place = end + end % 2
    return found


def _format(header: bytes, where: str) -> tuple[int, int, int, int]:
    """Format, channels, rate and bits of a sample."""
    if len(header) < 16:
        raise FedliteError(f"{where}: damaged; its header does not say what its samples are")
    form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if form == EXTENSIBLE and len(header) >= 26:
        (form,) = struct.unpack_from("<H", header, 24)
    if form not in (INTEGERS, FLOATS):
        kind = COMPRESSED.get(form, f"format {form}")
        raise FedliteError(f"{where}: its samples are compressed ({kind}); {CONVERT}")
    if bits not in ((8, 16, 24, 32) if form == INTEGERS else (32, 64)):
        raise FedliteError(f"{where}: has samples of {bits} bits; {CONVERT}")
    if channels == 0 or not SLOWEST <= rate <= FASTEST:
        raise FedliteError(f"{where}: says {channels} channels at {rate} Hz, which is no sound")
    return form, channels, rate, bits


def _values(data: bytes, form: int, bits: int) -> Double:
    """Samples in units of 2^-15 of full scale, exactly."""
    found: NDArray[Any]
    if form == FLOATS:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float64) * LEVELS
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) * 256
    if bits == 24:
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        found = triples[:, 0] << 8 | triples[:, 1] << 16 | triples[:, 2] << 24
    else:
        found = np.frombuffer(data, f"<i{bits // 8}")
    return found / (1.0 if bits == 16 else 65536.0)
