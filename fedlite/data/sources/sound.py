"""The ``sound`` source: recordings in a folder for each class, listed in a csv, or as arrays."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.folders import Listed, listed, parts_of
from fedlite.data.options import DatasetOptions, SoundOptions
from fedlite.data.raw import Array, RawData, input_columns, label_column, root_path
from fedlite.serve.logmel import LogMel, log_mel
from fedlite.serve.sounds import SOUNDS, Clip, clips_of, read_clip
from fedlite.serve.texts import TABLES, column, read_table

FOLDER = "folder"  # dataset.keys.groups: the speaker is a folder within the class's
SHORTEST = 4  # samples of a window: one wave of half the rate needs as many


def read(config: DatasetOptions) -> RawData:
    """Read recordings as log-mel spectrograms (n, 1, bands, frames) in decibels.

    ``dataset.root`` is a folder with a folder of wav files for each class, or with such folders in
    the parts that ``dataset.files`` names (:func:`fedlite.data.folders.parts_of`); or a csv, tsv or
    jsonl whose columns ``dataset.keys`` names: ``inputs`` (paths, from the folder of the file),
    ``labels`` and ``groups`` (the speaker); or an npz with arrays of these names, of samples
    (n, samples) at ``dataset.sound.rate``. Among folders, ``groups`` is ``folder``, where each
    speaker has one within the class's, or a regular expression whose first match in the path below
    the class's folder is the speaker.

    Raises:
        UsageError: no recordings or labels, a speaker that cannot be told, or options of a
            spectrogram that do not fit each other.
        FedliteError: a file is no recording, damaged, or holds no sound.
    """
    front = front_end(config.sound)
    root = root_path(config)
    if root.suffix.lower() == ".npz":
        return _arrays(root, config, front)
    if root.is_dir() and not (root / (config.files.get("train") or "")).is_file():
        return _folders(root, config, front)
    return _tables(root, config, front)


def front_end(options: SoundOptions) -> LogMel:
    """The front end that options describe.

    Raises:
        UsageError: they do not fit each other.
    """
    front = log_mel(
        options.rate, options.seconds, options.window, options.hop, options.bands, options.floor
    )
    if front.window < SHORTEST or front.hop < 1:
        raise UsageError(
            f"dataset.sound: window={options.window:g} and hop={options.hop:g} milliseconds are"
            f" {front.window} and {front.hop} samples at {front.rate} Hz; give more"
        )
    if front.window > front.samples:
        raise UsageError(
            f"dataset.sound.window={options.window:g}: a frame is longer than a clip of"
            f" dataset.sound.seconds={options.seconds:g}"
        )
    if empty := front.empty_bands():
        raise UsageError(
            f"dataset.sound.bands={options.bands}: in {len(empty)} of them no frequency of a"
            f" {options.window:g} ms window lies; give fewer, or a longer dataset.sound.window"
        )
    return front


@dataclass(frozen=True, eq=False)
class _Part:
    """Spectrograms of one part, and the clips' notes."""

    inputs: Array
    notes: tuple[str, ...]


def _folders(root: Path, config: DatasetOptions, front: LogMel) -> RawData:
    train, test = parts_of(root, config)
    found = listed(train, SOUNDS, "recordings")
    part = _part(_clips(found.files, front), front, train)
    raw = RawData(
        inputs_train=part.inputs,
        labels_train=found.labels,
        groups=_speakers(found, config.keys.get("groups", "")),
        class_names=found.classes,
        sound=front,
        notes=(*found.notes, *part.notes),
    )
    if test is None:
        return raw
    tested = listed(test, SOUNDS, "recordings")
    part = _part(_clips(tested.files, front), front, test)
    return replace(
        raw,
        inputs_test=part.inputs,
        labels_test=tested.places_in(found),
        notes=(*raw.notes, *tested.notes, *part.notes),
    )


def _speakers(found: Listed, how: str) -> Array | None:
    """Whose recording each file is; None where nobody asks."""
    if not how:
        return None
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise UsageError(
            f"dataset.keys.groups={how}: neither {FOLDER} nor a regular expression ({error})"
        ) from error
    names = []
    for file in found.files:
        within = file.relative_to(found.folder)
        below = Path(*within.parts[1:])
        match = pattern.search(below.as_posix())
        if how == FOLDER:
            name = below.parts[0] if len(below.parts) > 1 else ""
        else:
            name = (match[1] if pattern.groups else match[0]) or "" if match else ""
        if not name:
            raise UsageError(
                f"dataset.keys.groups={how}: tells no speaker of {within}; give {FOLDER}, or a"
                " regular expression such as '^[^_]+' for what stands before the first _"
            )
        names.append(name)
    return np.array(names)


def _tables(root: Path, config: DatasetOptions, front: LogMel) -> RawData:
    folder = root if root.is_dir() else root.parent
    train = root / config.files["train"] if root.is_dir() else root
    groups = config.keys.get("groups")
    part, labels, names = _table(train, config, front, groups)
    raw = RawData(
        inputs_train=part.inputs,
        labels_train=labels,
        groups=names,
        sound=front,
        notes=part.notes,
    )
    if not config.files.get("test"):
        return raw
    part, labels, _ = _table(folder / config.files["test"], config, front, None)
    return replace(
        raw, inputs_test=part.inputs, labels_test=labels, notes=(*raw.notes, *part.notes)
    )


def _table(
    path: Path, config: DatasetOptions, front: LogMel, groups: str | None
) -> tuple[_Part, Array, Array | None]:
    """Spectrograms, labels and speakers of the recordings that a file lists."""
    if not path.is_file() or not path.name.lower().endswith(TABLES):
        raise UsageError(
            f"{path}: expected a folder with one of recordings for each class, a csv, tsv or jsonl"
            " that lists them, or an npz"
        )
    table = read_table(path)
    (name,) = input_columns(config)[:1]
    paths = [str(one) for one in column(table, name, path, "dataset.keys.inputs")]
    part = _part(_clips([path.parent / one for one in paths], front), front, path)
    labels = np.array(column(table, label_column(config), path, "dataset.keys.labels"))
    names = np.array(column(table, groups, path, "dataset.keys.groups")) if groups else None
    return part, labels, names


def _arrays(path: Path, config: DatasetOptions, front: LogMel) -> RawData:
    wanted = {role: config.keys[role] for role in ("inputs", "labels")}
    for role in ("groups", "inputs_test", "labels_test"):
        if config.keys.get(role):
            wanted[role] = config.keys[role]
    arrays = read_arrays(path, wanted)

    def part_of(role: str) -> _Part:
        return _part(clips_of(arrays[role], front, f"{path}, {wanted[role]}"), front, path)

    train = part_of("inputs")
    test = part_of("inputs_test") if "inputs_test" in arrays else None
    return RawData(
        inputs_train=train.inputs,
        labels_train=arrays["labels"],
        groups=arrays.get("groups"),
        inputs_test=None if test is None else test.inputs,
        labels_test=arrays.get("labels_test"),
        sound=front,
        notes=(*train.notes, *(() if test is None else test.notes)),
    )


def _clips(files: Sequence[Path], front: LogMel) -> Iterable[Clip]:
    return (read_clip(path, front, "dataset.root") for path in files)


def _part(clips: Iterable[Clip], front: LogMel, where: Path) -> _Part:
    """Clips as spectrograms, and how many of them are not as they were recorded."""
    found = list(clips)
    if not found:
        raise UsageError(f"{where}: lists no recordings")
    counts = Counter(note for clip in found for note in clip.notes)
    notes = [
        f"{where}: {count} of {len(found)} recordings are {note}" for note, count in counts.items()
    ]
    return _Part(front(np.stack([clip.samples for clip in found])), tuple(notes))
