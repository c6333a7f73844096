"""The ``huggingface`` source: image and tabular sets from the hub or a local path."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.data.hub import offline_where_unreachable
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, arrange, input_columns, label_column, root_path
from fedlite.data.table import examples_of
from fedlite.data.table_files import is_text_table, read_files

_BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}


def read(config: DatasetOptions) -> RawData:
    """Read a data set by hub name or local path (``dataset.root``).

    A local path is a folder written by ``save_to_disk``, a csv, parquet or json file, or a folder
    that ``datasets.load_dataset`` understands; ``dataset.files`` may name one file per split.
    ``dataset.keys``: ``inputs`` (an image or array column, or a comma separated list of number
    columns), ``labels``, and optionally ``groups``, ``split_train``, ``split_test``, ``subset``.

    Raises:
        UsageError: the set cannot be loaded, or a split or column is not there or not usable.
    """
    names = [config.keys.get("split_train") or "train"]
    if test_name := config.keys.get("split_test"):
        names.append(test_name)
    if files := _text_tables(config):
        _check_splits(config, names, list(files))
        input_columns(config)
        tables = [read_files([files[name]]) for name in names]
        return examples_of(config, tables[0], tables[1] if len(tables) > 1 else None)
    train, *rest = _load(config, names)
    labels, class_names = _labels(train, config)
    groups = config.keys.get("groups")
    raw = RawData(
        inputs_train=_inputs(train, config),
        labels_train=labels,
        groups=_column(train, groups) if groups else None,
        class_names=class_names,
    )
    for test in rest:
        labels, _ = _labels(test, config)
        raw = replace(raw, inputs_test=_inputs(test, config), labels_test=labels)
    return raw


def _load(config: DatasetOptions, names: list[str]) -> list[Any]:
    """The named splits, as ``datasets.Dataset``; seconds to import, so only where used."""
    if not _is_local(config.root):
        offline_where_unreachable()
    import datasets

    try:
        if not _is_local(config.root):
            return _load_hub(config, names)
        splits = _load_local(config)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        if not _is_local(config.root) and "OfflineModeIsEnabled" in str(error):
            reason = (
                "the hub cannot be reached, or HF_HUB_OFFLINE is set, and its cache has no copy"
            )
        raise UsageError(f"dataset.root={config.root}: cannot be loaded ({reason})") from error
    _check_splits(config, names, list(splits))
    return [splits[name] for name in names]


def _check_splits(config: DatasetOptions, names: list[str], has: list[str]) -> None:
    for name in names:
        if name not in has:
            raise UsageError(
                f"dataset.root={config.root}: no split {name!r}; has {', '.join(has)}; set"
                " dataset.keys.split_train, and dataset.keys.split_test (empty for no test part)"
            )


def _is_local(root: str | None) -> bool:
    """A path that exists, or that is written as one (a hub name has at most one slash)."""
    if not root:
        return True
    return Path(root).expanduser().exists() or root[0] in "./~" or root.count("/") > 1


def _load_hub(config: DatasetOptions, names: list[str]) -> list[Any]:
    from flwr_datasets import FederatedDataset

    federated = FederatedDataset(
        dataset=config.root,
        subset=config.keys.get("subset") or None,
        partitioners={names[0]: 1},
        shuffle=False,
    )
    return [federated.load_split(name) for name in names]


def _load_local(config: DatasetOptions) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()  # a local read is short
    root = root_path(config)
    if files := _local_files(config, root):
        suffix = next(iter(files.values())).suffix
        if suffix not in _BUILDERS:
            raise UsageError(f"{root}: files of type {suffix!r}; expected {', '.join(_BUILDERS)}")
        paths = {split: str(path) for split, path in files.items()}
        return dict(datasets.load_dataset(_BUILDERS[suffix], data_files=paths))
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        loaded = datasets.load_from_disk(str(root))
        return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    return dict(datasets.load_dataset(str(root)))


def _local_files(config: DatasetOptions, root: Path) -> dict[str, Path]:
    """The files that are named, by split; empty where ``root`` is a folder to look into."""
    if root.is_file():
        return {config.keys.get("split_train") or "train": root}
    return {split: root / name for split, name in config.files.items() if name}


def _text_tables(config: DatasetOptions) -> dict[str, Path]:
    """The csv files that are named, by split: they are read as ``dataset=table`` reads them."""
    if not _is_local(config.root):
        return {}
    files = _local_files(config, root_path(config))
    return files if all(map(is_text_table, files.values())) else {}


def _check_column(split: Any, name: str) -> None:
    if name not in split.column_names:
        has = ", ".join(split.column_names)
        hint = did_you_mean(name, split.column_names) or ";"
        raise UsageError(f"dataset.keys: no column {name!r}{hint} the data set has {has}")
    if empty := split.data.column(name).null_count:
        raise UsageError(f"column {name!r}: {empty} rows are empty; fill or remove them")


def _column(split: Any, name: str) -> Array:
    _check_column(split, name)
    return np.asarray(split.with_format("numpy")[name][:])


def _inputs(split: Any, config: DatasetOptions) -> Array:
    """(n, C, H, W) uint8 from images, (n, ...) from an array column, (n, F) from many columns."""
    import datasets

    columns = input_columns(config)
    if isinstance(split.features.get(columns[0]), datasets.Image):
        return _images(split, columns[0])
    arrays = [_column(split, name) for name in columns]
    if len(columns) == 1 and arrays[0].ndim > 1:
        return arrange(arrays[0], config.layout)
    for name, array in zip(columns, arrays, strict=True):
        if array.ndim != 1 or array.dtype.kind not in "biuf":
            raise UsageError(f"dataset.keys.inputs: column {name!r} does not hold one number a row")
    return np.stack([array.astype(np.float32) for array in arrays], axis=1)


def _images(split: Any, column: str) -> Array:
    _check_column(split, column)
    pictures = list(split[column])
    mode = "L" if all(picture.mode in ("1", "L") for picture in pictures) else "RGB"
    images = [np.asarray(picture.convert(mode)) for picture in pictures]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        some = ", ".join(str(shape) for shape in sorted(shapes)[:3])
        raise UsageError(f"column {column!r}: images of different sizes ({some}); make them equal")
    return arrange(np.stack(images), "none" if mode == "L" else "channels_last")


def _labels(split: Any, config: DatasetOptions) -> tuple[Array, tuple[str, ...] | None]:
    """The label column, and its class names where it is of class labels."""
    import datasets

    name = label_column(config)
    feature = split.features.get(name)
    names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    return _column(split, name), names
