"""The cache: teacher and public student are trained once for the same data, settings and code."""

import dataclasses
import hashlib
import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlite.base.cache import HOME_CACHE
from fedlite.base.compute import CPU, device_of
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.records import Evaluation
from fedlite.base.tensors import load_tensors, on_cpu, save_tensors, state_sha256
from fedlite.base.version import __version__
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.options import DistillOptions, TeacherOptions
from fedlite.distill.teacher import freeze, load_teacher, train_teacher
from fedlite.distill.warm_start import warm_start
from fedlite.models.build import build_model, import_class, load_state
from fedlite.models.options import ModelOptions

log = logging.getLogger(__name__)

TRAINING = 2  # goes up when training gives other weights for the same settings
TEACHERS, PUBLIC_STUDENTS = "teachers", "public_students"


def teacher_cache_key(
    config: TeacherOptions,
    task: Task,
    public: PublicData,
    validation: PublicData,
    augment: AugmentOptions,
    seed: int,
    device: torch.device = CPU,
    start: nn.Module | None = None,
) -> str:
    """The sha256 (hex) of all that decides the trained weights.

    Model and training settings, the source file of the model's class, the input shape and number
    of classes, every byte of the public data, augmentation, seed, versions, that of the training
    among them, and the kind of device, which rounds in its own way; not where the cache lies. Of a
    teacher from a checkpoint also the weights that ``start`` begins with.
    """
    settings = dataclasses.asdict(config)
    for key in ("name", "checkpoint", "cache_dir", "normalise", "mean", "std"):
        del settings[key]
    settings |= config.scaling
    facts = {
        "settings": settings,
        "input_shape": task.input_shape,
        "num_classes": task.num_classes,
        "augment": dataclasses.asdict(augment),
        "seed": seed,
    }
    if start is None:
        del settings["fine_tune"]
    else:
        facts["start"] = state_sha256(start.state_dict())
    return _key(facts, config, device, public, validation)


def cached_teacher(
    config: TeacherOptions,
    task: Task,
    public: PublicData,
    validation: PublicData,
    augment: AugmentOptions,
    seed: int,
    on_epoch: Callable[[int, Evaluation], None] | None = None,
    device: torch.device = CPU,
) -> tuple[nn.Module, bool]:
    """The trained, frozen teacher, on ``device``, and whether it came from the cache.

    One from a checkpoint begins with the weights of that.
    It lies in ``<config.cache_dir>/teachers/<key>.pt``; ``cache_dir`` null trains without a cache.
    A damaged file is trained again and replaced.

    Raises:
        UsageError: the model cannot be built, its checkpoint cannot be loaded, or the cache folder
            cannot be made.
    """
    model, start = build_model(config, task, seed).to(device), None
    if config.checkpoint is not None:
        load_teacher(model, config, task)
        start = model.requires_grad_(requires_grad=True)
    path = None
    if config.cache_dir is not None:
        key = teacher_cache_key(config, task, public, validation, augment, seed, device, start)
        path = _file(config.cache_dir, TEACHERS, key)
    if _load(model, path):
        freeze(model)
        return model, True
    train_teacher(model, public, validation, config, augment, seed, on_epoch)
    _save(model, path)
    return model, False


def cached_warm_start(
    cache_dir: str | None,
    student: nn.Module,
    model: ModelOptions,
    teacher: nn.Module,
    public: PublicData,
    config: DistillOptions,
    augment: AugmentOptions,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> bool:
    """Warm-start ``student`` in place, from the cache where it was done before; whether it was.

    It lies in ``<cache_dir>/public_students/<key>.pt``; a null ``cache_dir`` trains without a
    cache. ``model`` is the student's configuration; the other arguments are those of
    :func:`fedlite.distill.warm_start.warm_start`.

    Raises:
        UsageError: the cache folder cannot be made.
        TypeError: ``public`` is not :class:`PublicData`.
    """
    path = None
    if cache_dir is not None:
        settings = dataclasses.asdict(config)
        del settings["word_vectors"]  # they are the start's
        facts = {
            "start": state_sha256(student.state_dict()),
            "kwargs": model.kwargs,
            "teacher": state_sha256(teacher.state_dict()),
            "distill": settings,
            "augment": dataclasses.asdict(augment),
            "seed": seed,
        }
        key = _key(facts, model, device_of(student), public)
        path = _file(cache_dir, PUBLIC_STUDENTS, key)
    if _load(student, path):
        student.train()
        return True
    warm_start(student, teacher, public, config, augment, seed, on_step)
    _save(student, path)
    return False


def _key(
    facts: dict[str, Any], model: ModelOptions, device: torch.device, *parts: PublicData
) -> str:
    versions = [__version__, torch.__version__, TRAINING]
    facts = {**facts, "module": model.module, "versions": versions}
    if device.type != CPU.type:
        facts["device"] = device.type
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(Path(inspect.getfile(import_class(model.module))).read_bytes())
    for part in parts:
        for tensor in (part.inputs, part.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load(model: nn.Module, path: Path | None) -> bool:
    """Load a cached state into ``model``; False where there is none, or a damaged one."""
    if path is None or not path.exists():
        return False
    try:
        load_state(model, load_tensors(path), where=str(path))
    except FedliteError as error:
        log.warning("trained again, a cache file is damaged: %s", error)
        return False
    return True


def _save(model: nn.Module, path: Path | None) -> None:
    if path is None:
        return
    try:
        save_tensors(path, on_cpu(model.state_dict()))
    except FedliteError as error:
        log.warning("not cached: %s", error)


def _file(cache_dir: str, kind: str, key: str) -> Path | None:
    """Where a state lies; the folder is made. None where nobody named it and a home cannot hold
    it."""
    folder = Path(cache_dir).expanduser() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if cache_dir == HOME_CACHE:
            log.warning("no cache: %s cannot be made (%s)", folder, error.strerror)
            return None
        raise UsageError(
            f"teacher.cache_dir={cache_dir}: cannot make {folder} ({error.strerror});"
            " give a writable folder or null"
        ) from error
    return folder / f"{key}.pt"
