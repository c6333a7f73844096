"""From recordings to spectrograms: files, rates, lengths, and arithmetic to the last bit."""

import math
from pathlib import Path

import numpy as np
import pytest

from fedlite.base.errors import FedliteError
from fedlite.serve.exact import cosine, logarithm
from fedlite.serve.inputs import files_of, read_examples
from fedlite.serve.logmel import LogMel, log_mel
from fedlite.serve.preprocessing import Preprocessing
from fedlite.serve.resample import as_levels, resampled
from fedlite.serve.sounds import CHANNELS, LONGER, SILENT, clips_of, read_clip
from fedlite.serve.sounds import RATE as OTHER_RATE
from fedlite.serve.wav import read_wav
from tests.sounds import EXTENSIBLE, FLOATS, INTEGERS, MU_LAW, RATE, tone, wav, write_wav

FRONT = log_mel(RATE, seconds=0.5, window=30, hop=20, bands=20, floor=-80)
TAKES = Preprocessing(FRONT.shape, 1.0, (-40.0,), (20.0,), sound=FRONT)


def test_cosine_and_logarithm_are_those_of_the_library_but_for_rounding() -> None:
    places = np.arange(-2000, 2000)
    for denominator in (480, 512, 7):
        wanted = np.cos(2 * np.pi * (places % denominator) / denominator)
        assert np.abs(cosine(places, denominator) - wanted).max() < 1e-14
    values = np.exp(np.random.default_rng(0).uniform(-69, 9, 1000))
    assert np.abs(logarithm(values) - np.log(values)).max() < 2e-14


def test_a_spectrogram_is_that_of_a_plain_fourier_transform() -> None:
    clip = as_levels(np.random.default_rng(0).normal(0, 3000, FRONT.samples))
    found = FRONT(clip[None])[0, 0]
    assert found.shape == (20, 24)
    times = np.arange(FRONT.window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / FRONT.window)
    edges = np.array(FRONT.edges)
    at = np.arange(129) * RATE / 256
    for frame in (0, 11, 23):
        part = clip[frame * FRONT.hop :][: FRONT.window] * hann / 2**15
        power = np.abs(np.fft.rfft(part, 256)) ** 2 / (hann.sum() / 2) ** 2
        for band in range(20):
            low, tip, high = edges[band : band + 3]
            weights = np.clip(
                np.minimum((at - low) / (tip - low), (high - at) / (high - tip)), 0, 1
            )
            assert found[band, frame] == pytest.approx(10 * math.log10(weights @ power), abs=1e-3)


def test_a_tone_of_full_scale_is_loudest_in_its_band_and_silence_is_the_floor() -> None:
    tip = FRONT.edges[8]
    spectrum = FRONT(as_levels(2 * tone(tip, FRONT.samples) * 32767)[None])[0, 0, :, 12]
    assert int(spectrum.argmax()) == 7
    assert spectrum.max() == pytest.approx(0, abs=3)  # neighbouring frequencies add up
    assert (FRONT(np.zeros((2, FRONT.samples), np.int64)) == -80).all()


def test_samples_in_another_order_of_adding_give_the_same_bits() -> None:
    """What fixes the bits: every product and sum of the transform is a whole number below 2^53."""
    loudest = np.where(np.arange(FRONT.samples) % 2, 2**15 - 1, -(2**15))
    assert FRONT.window * 2**15 * 2**20 < 2**53
    one = FRONT(loudest[None])
    assert one.tobytes() == FRONT(np.tile(loudest, (70, 1)))[69:].tobytes()


@pytest.mark.parametrize("rate", [4000, 11_025, 44_100])
def test_another_rate_keeps_a_tone_and_drops_what_the_rate_cannot_hold(rate: int) -> None:
    found = resampled(as_levels(tone(1000, rate, rate) * 2**15), rate, RATE)
    assert len(found) == RATE
    assert np.abs(found - tone(1000) * 2**15)[200:-200].max() < 4
    if rate > 2 * RATE:
        high = resampled(as_levels(tone(5000, rate, rate) * 2**15), rate, RATE)
        assert np.abs(high)[200:-200].max() < 50


@pytest.mark.parametrize(
    ("kind", "form", "bits", "exact"),
    [
        ("u1", INTEGERS, 8, lambda x: (x - 128) * 256),
        ("<i2", INTEGERS, 16, lambda x: x),
        ("<i2", EXTENSIBLE, 16, lambda x: x),
        ("<i4", INTEGERS, 32, lambda x: np.floor(x / 65536 + 0.5)),
        ("<f4", FLOATS, 32, lambda x: np.floor(x * 32768 + 0.5)),
        ("<f8", FLOATS, 64, lambda x: np.floor(x * 32768 + 0.5)),
    ],
)
def test_wav_files_of_every_kind_are_read(tmp_path: Path, kind, form, bits, exact) -> None:
    draws = np.random.default_rng(0)
    limits = None if form == FLOATS else np.iinfo(kind)
    values = (
        draws.uniform(-1, 1, 50) if limits is None else draws.integers(limits.min, limits.max, 50)
    ).astype(kind)
    (tmp_path / "a.wav").write_bytes(wav(values.tobytes(), form=form, bits=bits))
    found = read_wav(tmp_path / "a.wav", "input")
    assert found.rate == RATE
    wanted = np.clip(exact(values.astype(np.float64)), -(2**15), 2**15 - 1)
    assert found.samples.tolist() == wanted.tolist()


def test_samples_of_24_bits_and_channels_are_averaged(tmp_path: Path) -> None:
    both = [-(2**23), 2**22, 300 * 256, 100 * 256]
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in both)
    (tmp_path / "a.wav").write_bytes(wav(data, form=INTEGERS, bits=24, channels=2))
    assert read_wav(tmp_path / "a.wav", "input").samples.tolist() == [-8192, 200]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no sound", "is no wav file; convert it"),
        (wav(b"", form=INTEGERS, bits=16), "holds no sound: it has no samples"),
        (wav(b"\0" * 9, form=MU_LAW, bits=8), r"compressed \(mu-law\)"),
        (wav(b"\0" * 8, form=INTEGERS, bits=12), "samples of 12 bits"),
        (wav(b"\0" * 8, form=INTEGERS, bits=16, rate=3), "1 channels at 3 Hz"),
        (wav(b"\0" * 800, form=INTEGERS, bits=16)[:-100], "cut off: 100 of 800 bytes"),
        (wav(np.float32([0, np.nan]).tobytes(), form=FLOATS, bits=32), "not finite"),
        (wav(np.float32([0, 9000]).tobytes(), form=FLOATS, bits=32), "up to 9000; floats must lie"),
        (b"RIFF\0\0\0\0WAVE", "does not say what its samples are"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(FedliteError, match=said) as error:
        read_clip(tmp_path / "a.wav", FRONT, "input")
    assert str(error.value).startswith(f"input={tmp_path / 'a.wav'}: ")
    assert "\n" not in str(error.value)


def test_data_of_a_length_that_was_not_known_are_read_to_their_end(tmp_path: Path) -> None:
    whole = wav(b"\1\0\2\0", form=INTEGERS, bits=16)
    place = whole.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(whole[:place] + b"\xff" * 4 + whole[place + 4 :])
    assert read_wav(tmp_path / "a.wav", "input").samples.tolist() == [1, 2]


def test_what_was_done_to_a_recording_is_said(tmp_path: Path) -> None:
    loud = np.concatenate([np.zeros(RATE), tone(500, RATE // 2), np.zeros(RATE)])
    clip = read_clip(write_wav(tmp_path / "a.wav", loud), FRONT, "input")
    assert clip.notes == (LONGER,)
    assert (
        np.abs(clip.samples[200:-200]).reshape(-1, 20).max(axis=1).min() > 3000
    )  # all of the tone
    stereo = np.stack([tone(500, 4410, 22_050)] * 2, axis=1)
    clip = read_clip(write_wav(tmp_path / "b.wav", stereo, 22_050), FRONT, "input")
    assert clip.notes == (OTHER_RATE, CHANNELS)
    assert not clip.samples[:1000].any()  # what is shorter stands in the middle
    assert not clip.samples[-1000:].any()
    clip = read_clip(write_wav(tmp_path / "c.wav", np.zeros(5)), FRONT, "input")
    assert clip.notes == (SILENT,)
    with pytest.raises(FedliteError, match="lasts 1,100 s; cut it into pieces"):
        clips_of(np.zeros(1100 * RATE, np.int16), FRONT, "input")


def test_arrays_are_samples_or_spectrograms(tmp_path: Path) -> None:
    values = tone(500, FRONT.samples)
    exact = as_levels(values * 2**15)
    np.save(tmp_path / "one.npy", values)
    one = read_examples(tmp_path / "one.npy", TAKES, name="one.npy", invert=False)
    assert one.names == ["one.npy"]
    for name, array in (
        ("floats", np.stack([values, values])),
        ("integers", np.stack([exact, exact]).astype(np.int16)),
        ("spectrograms", np.concatenate([one.raw, one.raw])),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        two = read_examples(tmp_path / f"{name}.npy", TAKES, name=name, invert=False)
        assert two.names == [f"{name}[0]", f"{name}[1]"]
        assert two.raw.tobytes() == np.concatenate([one.raw, one.raw]).tobytes()
    wrong = np.zeros((2, 3, 4, 5))
    np.save(tmp_path / "wrong.npy", wrong)
    with pytest.raises(FedliteError, match="does not fit"):
        read_examples(tmp_path / "wrong.npy", TAKES, name="wrong", invert=False)
    np.save(tmp_path / "large.npy", 900 * values)
    with pytest.raises(FedliteError, match="up to 450; floats must lie"):
        read_examples(tmp_path / "large.npy", TAKES, name="large", invert=False)


def test_folders_stand_for_recordings_where_the_model_takes_them(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "A.WAV", tone(500))
    (tmp_path / "in" / "b.mp3").write_bytes(b"")
    assert files_of([tmp_path / "in"], "sound") == [tmp_path / "in" / "A.WAV"]
    with pytest.raises(FedliteError, match=r"unknown kind .mp3; give wav, npy or npz"):
        files_of([tmp_path / "in" / "b.mp3"], "sound")
    with pytest.raises(FedliteError, match=r"unknown kind \.wav"):
        files_of([tmp_path / "in" / "A.WAV"])


def test_a_band_without_a_frequency_is_found() -> None:
    assert not FRONT.empty_bands()
    assert log_mel(RATE, 0.5, window=10, hop=20, bands=60, floor=-80).empty_bands()
    assert isinstance(FRONT, LogMel)
