"""The page of a student of recordings: the same bits as in Python, files, and what it says."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedlite.serve.logmel import LogMel, log_mel
from fedlite.serve.sounds import read_clip
from tests.sounds import FLOATS, INTEGERS, tone, wav, write_wav

from .browser import SECONDS, answered, canvas_of, drop, expected

SPECTROGRAM = """async ([front, content]) => {
    const [{ LogMel, clipOf }, { readWav }] = await Promise.all(
        ["./logmel.js", "./wav.js"].map((name) => import(new URL(name, location.href).href)));
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const found = new LogMel(front).spectrogram(clipOf(readWav(bytes.buffer), front));
    return Array.from(new Uint32Array(found.buffer));
}"""
FRONTS = (
    log_mel(16_000, seconds=0.3, window=30, hop=20, bands=40, floor=-80),
    log_mel(8000, seconds=0.4, window=25.6, hop=10, bands=20, floor=-100),
)


def recordings() -> list[bytes]:
    """Noise in every kind of samples, at several rates and in one to three channels."""
    draws = np.random.default_rng(0)
    found = []
    kinds = [
        (INTEGERS, 8),
        (INTEGERS, 16),
        (INTEGERS, 24),
        (INTEGERS, 32),
        (FLOATS, 32),
        (FLOATS, 64),
    ]
    for place, rate in enumerate((8000, 11_025, 16_000, 22_050, 44_100, 48_000)):
        form, bits = kinds[place]
        channels = 1 + place % 3
        values = np.clip(draws.normal(0, 0.1**place, (rate // (1 + place), channels)), -1, 0.999)
        if form == FLOATS:
            data = values.astype(f"<f{bits // 8}").tobytes()
        elif bits == 8:
            data = (values * 128 + 128).astype(np.uint8).tobytes()
        else:
            whole = (values * 2 ** (bits - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)
            data = whole[:, : bits // 8].tobytes()
        found.append(wav(data, form=form, bits=bits, rate=rate, channels=channels))
    return found


@pytest.mark.parametrize("front", FRONTS, ids=["16 kHz", "8 kHz"])
def test_spectrograms_are_those_of_python_to_the_last_bit(
    page: Any, url: str, tmp_path: Path, front: LogMel
) -> None:
    page.goto(f"{url}/sound/")
    described = {name: getattr(front, name) for name in front.__dataclass_fields__}
    for content in recordings():
        found = page.evaluate(SPECTROGRAM, [described, base64.b64encode(content).decode()])
        (tmp_path / "a.wav").write_bytes(content)
        wanted = front(read_clip(tmp_path / "a.wav", front, "input").samples[None])
        assert found == wanted.view(np.uint32).ravel().tolist()


def test_a_recording_is_shown_answered_and_can_be_played(
    page: Any, url: str, site: Path, tmp_path: Path
) -> None:
    page.goto(f"{url}/sound/")
    answered(page)
    assert page.locator("#play").is_disabled()  # a public example has no sound
    file = write_wav(tmp_path / "a.wav", tone(300, 22_050, 22_050), 22_050)
    drop(page, file)
    assert answered(page) == pytest.approx(expected(site / "sound_bundle", file), abs=1e-6)
    about = page.locator("#about").inner_text()
    assert about.startswith("resampled from 22,050 Hz; the loudest 0.5 s of it; 0.5 s from left")
    shown = np.asarray(Image.open(canvas_of(page, tmp_path / "shown.png")).convert("L"), float)
    rows = shown[4:-4].mean(axis=1)
    assert rows.argmax() > len(rows) / 2  # low tones are at the bottom
    assert np.ptp(rows) > 60
    page.locator("#play").click()
    drop(page, write_wav(tmp_path / "b.wav", np.zeros(100)))
    answered(page)
    assert "silent" in page.locator("#about").inner_text()


def test_what_is_no_recording_is_said(page: Any, url: str, tmp_path: Path) -> None:
    page.goto(f"{url}/sound/")
    answered(page)
    (tmp_path / "a.wav").write_bytes(wav(b"", form=INTEGERS, bits=16))
    (tmp_path / "b.mp3").write_bytes(b"no sound")
    for name, said in (("a.wav", "a.wav holds no sound"), ("b.mp3", "b.mp3 is no recording")):
        drop(page, tmp_path / name)
        page.locator("#problem", has_text=said).wait_for(timeout=SECONDS)
