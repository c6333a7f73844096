"""Recordings as a data set: folders, lists and arrays, speakers, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.bundle import preprocessing_of
from fedlite.data.options import DatasetOptions, PartitionOptions, SoundOptions
from fedlite.data.raw import read_raw
from fedlite.data.splits import load_splits
from fedlite.serve.preprocessing import read_preprocessing
from tests.sounds import RATE, tone, write_wav

SOUND = SoundOptions(rate=RATE, seconds=0.25, bands=12)
KEYS = {"inputs": "path", "labels": "label"}


def options(root: Path, **more: object) -> DatasetOptions:
    given = {"sound": SOUND, "keys": KEYS, **more}
    return DatasetOptions(name="mine", source="sound", root=str(root), **given)  # type: ignore[arg-type]


def speak(folder: Path, speakers: int = 4, takes: int = 3) -> Path:
    """A folder for each of two words, with takes of some speakers in each."""
    for word, frequency in (("low", 400), ("high", 1600)):
        for speaker in range(speakers):
            for take in range(takes):
                sound = tone(frequency * (1 + speaker / 20), 1500 + 100 * take)
                write_wav(folder / word / f"anna {speaker}_{take}.wav", sound)
    return folder


def test_a_folder_is_a_class_and_names_tell_the_speaker(tmp_path: Path) -> None:
    root = speak(tmp_path / "Töne (1)")
    (root / "low" / "notes.txt").write_text("no sound")
    raw = read_raw(options(root, keys={**KEYS, "groups": "^[^_]+"}))
    assert raw.class_names == ("high", "low")
    assert raw.inputs_train.shape == (24, 1, 12, 12)
    assert raw.groups is not None
    assert np.bincount(raw.groups).tolist() == [6, 6, 6, 6]
    assert any("1 files are no recordings" in note for note in raw.notes)
    high, low = (raw.inputs_train[raw.labels_train == label] for label in (0, 1))
    assert high.mean(axis=(0, 1, 3)).argmax() > low.mean(axis=(0, 1, 3)).argmax()


def test_speakers_have_folders_or_are_asked_for(tmp_path: Path) -> None:
    write_wav(tmp_path / "yes" / "anna" / "1.wav", tone(500))
    write_wav(tmp_path / "no" / "ben" / "1.wav", tone(600))
    raw = read_raw(options(tmp_path, keys={**KEYS, "groups": "folder"}))
    assert raw.groups is not None
    assert raw.groups.tolist() == [1, 0]  # no/ben comes first
    write_wav(tmp_path / "no" / "2.wav", tone(600))
    with pytest.raises(UsageError, match=r"tells no speaker of no/2.wav"):
        read_raw(options(tmp_path, keys={**KEYS, "groups": "folder"}))
    with pytest.raises(UsageError, match="neither folder nor a regular expression"):
        read_raw(options(tmp_path, keys={**KEYS, "groups": "("}))


def test_a_list_names_recordings_labels_and_speakers(tmp_path: Path) -> None:
    root = speak(tmp_path, speakers=2, takes=1)
    lines = [f"{word}/anna {who}_0.wav,{word},{who}" for word in ("low", "high") for who in (0, 1)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,who", *lines]))
    (tmp_path / "test.csv").write_text("\n".join(["path,label,who", *lines[:1]]))
    listed = options(
        tmp_path / "list.csv", keys={**KEYS, "groups": "who"}, files={"test": "test.csv"}
    )
    raw, folders = read_raw(listed), read_raw(options(root))
    assert raw.labels_train.tolist() == [1, 1, 0, 0]
    assert raw.groups is not None
    assert raw.groups.tolist() == [0, 1, 0, 1]
    assert raw.inputs_train.tobytes() == np.roll(folders.inputs_train, 2, axis=0).tobytes()
    assert raw.inputs_test is not None
    assert raw.inputs_test.tobytes() == raw.inputs_train[:1].tobytes()
    (tmp_path / "list.csv").write_text("path,label\ngone.wav,low")
    with pytest.raises(FedliteError, match=r"gone.wav: cannot be read"):
        read_raw(options(tmp_path / "list.csv"))


def test_arrays_of_samples_are_recordings(tmp_path: Path) -> None:
    sounds = np.stack([tone(400, 2000), tone(1600, 2000)])
    np.savez(tmp_path / "a.npz", path=sounds, label=["low", "high"], who=["a", "b"])
    raw = read_raw(options(tmp_path / "a.npz", keys={**KEYS, "groups": "who"}))
    assert raw.inputs_train.shape == (2, 1, 12, 12)
    assert raw.labels_train.tolist() == [1, 0]


def test_recordings_that_are_changed_are_counted(tmp_path: Path) -> None:
    write_wav(tmp_path / "a" / "1.wav", tone(500, 44_100, 44_100), 44_100)
    write_wav(tmp_path / "a" / "2.wav", np.zeros(100))
    write_wav(tmp_path / "b" / "1.wav", tone(500))
    notes = " ".join(read_raw(options(tmp_path)).notes)
    assert "1 of 3 recordings are at another rate" in notes
    assert "2 of 3 recordings are longer" in notes
    assert "1 of 3 recordings are silent" in notes


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (SoundOptions(window=300, seconds=0.2), "longer than a clip"),
        (SoundOptions(bands=200), "no frequency of a 30 ms window lies"),
        (SoundOptions(rate=2000, hop=0.1), "window=30 and hop=0.1 milliseconds are 60 and 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, sound: SoundOptions, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_raw(options(speak(tmp_path, 1, 1), sound=sound))


def test_what_is_no_folder_of_recordings_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp3").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no folder with recordings \(wav"):
        read_raw(options(tmp_path))
    with pytest.raises(UsageError, match="expected a folder with one of recordings"):
        read_raw(options(tmp_path / "a" / "1.mp3"))
    (tmp_path / "a" / "2.wav").write_bytes(b"RIFF")
    with pytest.raises(FedliteError, match=r"2.wav: is no wav file"):
        read_raw(options(tmp_path))


def test_a_client_is_a_speaker_and_the_bundle_knows_the_front_end(tmp_path: Path) -> None:
    root = speak(tmp_path / "data", speakers=6)
    config = options(root, keys={**KEYS, "groups": "^[^_]+"}, public_size=12)
    splits = load_splits(config, PartitionOptions(name="natural"), None, seed=0)
    assert set(splits.client_sizes()) == {6}
    task = splits.task
    assert task.sound is not None
    (tmp_path / "preprocessing.json").write_text(json.dumps(preprocessing_of(task)))
    read = read_preprocessing(tmp_path / "preprocessing.json")
    assert (read.kind, read.words) == ("sound", "recordings of 0.25 s at 8,000 Hz")
    assert getattr(read, "sound", None) == task.sound
