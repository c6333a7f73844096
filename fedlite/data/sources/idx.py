"""The ``idx`` source: MNIST-style IDX files, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, root_path

# role -> (default file name, number of dimensions)
FILES = {
    "train_images": ("train-images-idx3-ubyte", 3),
    "train_labels": ("train-labels-idx1-ubyte", 1),
    "test_images": ("t10k-images-idx3-ubyte", 3),
    "test_labels": ("t10k-labels-idx1-ubyte", 1),
}


def read(config: DatasetOptions) -> RawData:
    """Read the four IDX files under ``dataset.root`` as (n, 1, H, W) uint8 images.

    ``dataset.files`` overrides their names; ``dataset.files.groups`` (.npz) with
    ``dataset.keys.groups_train`` gives each training image a natural id, such as its writer.

    Raises:
        UsageError: a file is missing, corrupt, truncated, or no IDX file of unsigned bytes.
    """
    root = root_path(config)
    arrays = {
        role: read_idx_file(_find(root, config.files.get(role) or default), dimensions)
        for role, (default, dimensions) in FILES.items()
    }
    groups = None
    if groups_file := config.files.get("groups"):
        if not config.keys.get("groups_train"):
            raise UsageError(
                f"dataset.keys.groups_train: missing; give the array in {groups_file} that"
                " holds the natural id of each training image"
            )
        wanted = {"groups_train": config.keys["groups_train"]}
        groups = read_arrays(root / groups_file, wanted)["groups_train"]
    return RawData(
        inputs_train=arrays["train_images"][:, None],
        labels_train=arrays["train_labels"],
        inputs_test=arrays["test_images"][:, None],
        labels_test=arrays["test_labels"],
        groups=groups,
    )


def read_idx_file(path: Path, dimensions: int) -> Array:
    """Parse one IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist: "the IDX format").

    Args:
        path: the file; gzip is recognised by its content.
        dimensions: how many dimensions it must have (3 for images, 1 for labels).

    Returns:
        uint8 array of that many dimensions.

    Raises:
        UsageError: corrupt gzip, wrong magic number, or a length that is not what the header says.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: corrupt or truncated gzip file ({error})") from error
    magic = bytes([0, 0, 0x08, dimensions])
    if data[:4] != magic:
        raise UsageError(
            f"{path}: no IDX file of unsigned bytes in {dimensions} dimension(s); it begins with"
            f" {data[:4].hex() or 'nothing'}, expected {magic.hex()}"
        )
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise UsageError(f"{path}: truncated within the header of {header} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, offset=4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        problem = "truncated" if len(data) < expected else "too long"
        raise UsageError(
            f"{path}: {problem}; {len(data)} bytes, but its header says {expected} {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(root: Path, name: str) -> Path:
    candidates = [root / name, root / f"{name}.gz", root / name.removesuffix(".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise UsageError(f"{root}: no file {name} (plain or .gz); check dataset.root and dataset.files")
