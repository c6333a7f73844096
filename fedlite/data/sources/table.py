"""The ``table`` source: csv and parquet files with a row for each example."""

from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, root_path
from fedlite.data.table import examples_of
from fedlite.data.table_files import is_table, matching, read_files


def read(config: DatasetOptions) -> RawData:
    """Read ``dataset.root``: a file, or a folder with ``train`` and perhaps ``test`` in it.

    ``dataset.files.train`` and ``dataset.files.test`` name files under a folder: one, several with
    commas between them, or a pattern such as ``part-*.csv``. ``dataset.keys`` are those of
    :func:`fedlite.data.table.examples_of`.

    Raises:
        UsageError: a file or column is not there, or is not usable.
    """
    train, test = _files(config)
    return examples_of(config, read_files(train), read_files(test) if test else None)


def _files(config: DatasetOptions) -> tuple[list[Path], list[Path]]:
    """The files of the training and of the test part."""
    root = root_path(config)
    folder = root if root.is_dir() else root.parent
    train, test = (
        matching(folder, config.files.get(part, ""), f"dataset.files.{part}")
        for part in ("train", "test")
    )
    if root.is_file():
        return [root], test
    if train:
        return train, test
    tables = sorted(path for path in folder.iterdir() if path.is_file() and is_table(path))
    parts = {part: [one for one in tables if _stem(one) == part] for part in ("train", "test")}
    if parts["train"]:
        return parts["train"], test or parts["test"]
    if not tables:
        raise UsageError(f"dataset.root={config.root}: the folder holds no csv or parquet file")
    return [one for one in tables if one not in test], test


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()
