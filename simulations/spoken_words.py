"""Spoken words of synthetic voices, for `dataset=sound`: eight commands by 416 voices of eSpeak NG.

    pip install espeakng-loader          # the synthesiser with its voices (GPL-3.0)
    python simulations/spoken_words.py DIR [takes=2] [seed=0]

This is synthetic speech and no recording of people: a voice is one of eSpeak's accents of English
with one of its variants, takes differ in speed, pitch, loudness and white noise (5 to 30 dB below
the word). Every fifth variant is in DIR/test, with all its accents, the others in DIR/train; in
each a folder for each word with files VOICE_TAKE.wav. So a voice is a client with

    fedlite simulate experiment=spoken_words dataset.root=DIR
"""

import ctypes
import math
import sys
import wave
from pathlib import Path
from zlib import crc32

import numpy as np

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.resample import Samples, as_levels, resampled

WORDS = ("yes", "no", "up", "down", "left", "right", "stop", "go")
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-029")  # Britain, America, Scotland, Caribbean
RATE = 16_000  # Hz, of the files
TEST_EVERY = 5  # variants
QUIET = 200  # of 2^15: where a word begins and ends
_SYNCHRONOUS, _UTF8, _SPEED, _PITCH, _RANGE = 2, 1, 1, 3, 4  # speak_lib.h
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Synthesiser:
    """eSpeak NG, speaking into memory."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise FedliteError(
                "espeakng-loader is not installed: pip install espeakng-loader"
            ) from error
        self._library = espeakng_loader.load_library()
        data = Path(espeakng_loader.get_data_path())
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0)
        self.variants = sorted(path.name for path in (data / "voices" / "!v").iterdir())
        self._heard: list[Samples] = []
        self._keep = _CALLBACK(self._hear)  # which the library calls, so it must live on
        self._library.espeak_SetSynthCallback(self._keep)

    def _hear(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if count > 0:
            self._heard.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int64))
        return 0

    def say(self, word: str, voice: str, speed: int, pitch: int, span: int) -> Samples:
        """Samples of a word at ``rate``, without the silence around it; empty where the voice is
        not there."""
        self._heard = []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            return np.zeros(0, np.int64)
        for parameter, value in ((_SPEED, speed), (_PITCH, pitch), (_RANGE, span)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = word.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        whole = np.concatenate([np.zeros(0, np.int64), *self._heard])
        loud = np.flatnonzero(np.abs(whole) > QUIET)
        return whole[loud[0] : loud[-1] + 1] if len(loud) else loud


def takes_of(
    synthesiser: Synthesiser, word: str, voice: str, takes: int, seed: int
) -> list[Samples]:
    """So many takes of a word in a voice, at 16 kHz; fewer than asked for where it cannot speak."""
    draws = np.random.default_rng([seed, crc32(f"{voice} {word}".encode())])
    found = []
    for _ in range(takes):
        speed, pitch = int(draws.integers(130, 210)), int(draws.integers(35, 65))
        said = synthesiser.say(word, voice, speed, pitch, int(draws.integers(30, 70)))
        if not len(said):
            return found
        clip = resampled(said, synthesiser.rate, RATE).astype(np.float64)
        clip *= 2**15 * draws.uniform(0.1, 0.7) / np.abs(clip).max()
        around = np.zeros(int(RATE * 1.0)) if len(clip) < RATE else np.zeros(len(clip))
        start = int(draws.integers(0, len(around) - len(clip) + 1))
        around[start : start + len(clip)] = clip
        level = math.sqrt(float((clip**2).mean())) * 10 ** (-draws.uniform(5, 30) / 20)
        found.append(as_levels(around + draws.normal(0, level, len(around))))
    return found


def write_words(folder: Path, takes: int, seed: int) -> tuple[int, int]:
    """Write all takes; the numbers of voices and of files."""
    synthesiser = Synthesiser()
    voices = files = 0
    for place, variant in enumerate(synthesiser.variants):
        part = folder / ("test" if place % TEST_EVERY == 0 else "train")
        for accent in ACCENTS:
            voice, spoken = f"{accent}+{variant}", 0
            for word in WORDS:
                clips = takes_of(synthesiser, word, voice, takes, seed)
                for take, clip in enumerate(clips):
                    name = f"{accent}-{variant.replace(' ', '-').replace('_', '-')}_{take}.wav"
                    _write(part / word / name, clip)
                spoken += len(clips)
            voices, files = voices + (spoken > 0), files + spoken
    return voices, files


def _write(path: Path, samples: Samples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def main(arguments: list[str]) -> int:
    """Write the words; the exit code."""
    try:
        given = dict(text.split("=", 1) for text in arguments if "=" in text)
        folders = [text for text in arguments if "=" not in text]
        if len(folders) != 1 or set(given) - {"takes", "seed"}:
            raise UsageError("give a folder, and perhaps takes=2 seed=0")
        takes, seed = int(given.get("takes", "2")), int(given.get("seed", "0"))
        voices, files = write_words(Path(folders[0]), takes, seed)
    except ValueError:
        print("takes and seed: expected whole numbers", file=sys.stderr)
        return 2
    except FedliteError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{files:,} files of {voices} synthetic voices in {folders[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
