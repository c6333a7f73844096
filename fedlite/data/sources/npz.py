"""The ``npz`` source: arrays by key from one NumPy archive."""

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, arrange, root_path

_REQUIRED = ("inputs_train", "labels_train")
_OPTIONAL = ("inputs_test", "labels_test", "groups_train", "class_names")


def read(config: DatasetOptions) -> RawData:
    """Read ``dataset.files.data`` under ``dataset.root``; ``dataset.keys`` names its arrays.

    Raises:
        UsageError: file or key missing, or the archive is corrupt or truncated.
    """
    if not config.files.get("data"):
        raise UsageError(f"dataset.files.data: missing for dataset {config.name}; give a .npz file")
    for key in _REQUIRED:
        if not config.keys.get(key):
            raise UsageError(f"dataset.keys.{key}: missing; give the array's name in the file")
    wanted = {role: config.keys[role] for role in _REQUIRED + _OPTIONAL if config.keys.get(role)}
    arrays = read_arrays(root_path(config) / config.files["data"], wanted)
    test = arrays.get("inputs_test")
    names = arrays.get("class_names")
    return RawData(
        inputs_train=arrange(arrays["inputs_train"], config.layout),
        labels_train=arrays["labels_train"],
        inputs_test=None if test is None else arrange(test, config.layout),
        labels_test=arrays.get("labels_test"),
        groups=arrays.get("groups_train"),
        class_names=None if names is None else tuple(str(name) for name in names.ravel()),
    )
