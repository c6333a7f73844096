"""From a recording to the clip that a model of sounds hears; the page does the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.serve.logmel import LogMel
from fedlite.serve.resample import LEVELS, Samples, as_levels, resampled
from fedlite.serve.wav import Recording, check_loudness, read_wav

SOUNDS = (".wav", ".wave")
OTHER_SOUNDS = (".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".wma")
MOST_SAMPLES = 2**23  # of a recording at the model's rate: sums of squares stay below 2^53

RATE = "at another rate; resampled"
CHANNELS = "of several channels; averaged"
LONGER = "longer than what the model hears; its loudest stretch was taken"
SILENT = "silent"


@dataclass(frozen=True, eq=False)
class Clip:
    """Whole-number samples (samples,) as a front end takes them, and what was done to get them."""

    samples: Samples
    notes: tuple[str, ...] = ()


def read_clip(path: Path, front: LogMel, option: str) -> Clip:
    """The clip of a wav file, brought to the rate and length of ``front``.

    Raises:
        UsageError: it is too long.
        FedliteError: it is no wav file, damaged, or holds no sound.
    """
    return clip_of(read_wav(path, option), front, f"{option}={path}")


def clip_of(recording: Recording, front: LogMel, where: str) -> Clip:
    """A recording at the rate of ``front``; the loudest stretch of a longer one, a shorter one
    between silences.

    Raises:
        UsageError: it is too long.
    """
    seconds = len(recording.samples) / recording.rate
    if seconds * max(front.rate, recording.rate) > MOST_SAMPLES:
        raise UsageError(f"{where}: lasts {seconds:,.0f} s; cut it into pieces")
    samples = resampled(recording.samples, recording.rate, front.rate)
    notes = [RATE] if recording.rate != front.rate else []
    notes += [CHANNELS] if recording.channels > 1 else []
    notes += [LONGER] if len(samples) > front.samples else []
    clip = fitted(samples, front)
    notes += [] if clip.any() else [SILENT]
    return Clip(clip, tuple(notes))


def fitted(samples: Samples, front: LogMel) -> Samples:
    """The stretch of the length of a clip that holds the most energy, the first of equal ones,
    beginning at a whole number of hops; what is shorter stands in the middle of silence."""
    missing = front.samples - len(samples)
    if missing >= 0:
        return np.pad(samples, (missing // 2, missing - missing // 2))
    energy = np.concatenate([[0], np.cumsum(samples * samples)])
    starts = np.arange(0, -missing + 1, front.hop)
    start = starts[np.argmax(energy[starts + front.samples] - energy[starts])]
    return samples[start : start + front.samples]


def clips_of(array: NDArray[Any], front: LogMel, where: str) -> list[Clip]:
    """Clips of samples at the front end's rate: (samples,), or (n, samples) of equal length.

    Whole numbers are of the full scale of their type, floats from -1 to 1.

    Raises:
        UsageError: too long, or of another shape.
        FedliteError: values that are no samples.
    """
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iuf":
        raise UsageError(
            f"{where}: shape {array.shape} of {array.dtype} holds no sound; expected samples"
            f" (samples,) or (n, samples), or spectrograms {front.shape}"
        )
    values = np.atleast_2d(array).astype(np.float64)
    if array.dtype.kind != "f":
        limits = np.iinfo(array.dtype)
        half = (float(limits.max) + 1 - float(limits.min)) / 2
        values = (values - (0 if limits.min else half)) / half
    check_loudness(values, where)
    return [clip_of(Recording(as_levels(row * LEVELS), front.rate), front, where) for row in values]
