"""The teacher cache: a teacher is trained once for the same data, settings and code."""

import dataclasses
import hashlib
import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fedlite import __version__
from fedlite.config import AugmentConfig, TeacherConfig
from fedlite.data.types import PublicData, Task
from fedlite.distill.teacher import load_teacher_checkpoint, train_teacher
from fedlite.errors import FedliteError, UsageError
from fedlite.files import save_tensors
from fedlite.models.build import build_model, import_class

log = logging.getLogger(__name__)


def teacher_cache_key(
    config: TeacherConfig,
    task: Task,
    public: PublicData,
    validation: PublicData,
    augment: AugmentConfig,
    seed: int,
) -> str:
    """The sha256 (hex) of all that decides the trained weights.

    Model and training settings, the source file of the model's class, the input shape and number
    of classes, every byte of the public data, augmentation, seed and versions; not where the cache
    lies.
    """
    settings = dataclasses.asdict(config)
    for key in ("name", "checkpoint", "cache_dir"):
        del settings[key]
    facts = {
        "settings": settings,
        "input_shape": task.input_shape,
        "num_classes": task.num_classes,
        "augment": dataclasses.asdict(augment),
        "seed": seed,
        "versions": [__version__, torch.__version__],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(Path(inspect.getfile(import_class(config.module))).read_bytes())
    for part in (public, validation):
        for tensor in (part.inputs, part.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached_teacher(
    config: TeacherConfig,
    task: Task,
    public: PublicData,
    validation: PublicData,
    augment: AugmentConfig,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[nn.Module, bool]:
    """The trained, frozen teacher, and whether it came from the cache.

    It lies in ``<config.cache_dir>/teachers/<key>.pt``; ``cache_dir`` null trains without a cache.
    A damaged file is trained again and replaced.

    Raises:
        UsageError: the model cannot be built, or the cache folder cannot be made.
    """
    model = build_model(config, task.input_shape, task.num_classes, seed)
    path = None
    if config.cache_dir is not None:
        key = teacher_cache_key(config, task, public, validation, augment, seed)
        path = _folder(config.cache_dir) / f"{key}.pt"
        if path.exists():
            try:
                load_teacher_checkpoint(model, path)
                return model, True
            except UsageError as error:
                log.warning("teacher trained again, its cache file is damaged: %s", error)
                model = build_model(config, task.input_shape, task.num_classes, seed)
    train_teacher(model, public, validation, config, augment, seed, on_epoch)
    if path is not None:
        try:
            save_tensors(path, model.state_dict())
        except FedliteError as error:
            log.warning("teacher not cached: %s", error)
    return model, False


def _folder(cache_dir: str) -> Path:
    folder = Path(cache_dir).expanduser() / "teachers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"teacher.cache_dir={cache_dir}: cannot make {folder} ({error.strerror});"
            " give a writable folder or null"
        ) from error
    return folder
