"""Where networks compute: the processor or a GPU. Decided here, and nowhere else.

A network is moved once, where it is built or loaded for heavy work; what it is given follows it
(:func:`device_of`). What is drawn is drawn on the processor and moved, so that a seed means the
same everywhere; dropout alone draws where the network is.
"""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedlite.base.errors import FedliteError, UsageError

CPU = torch.device("cpu")
GPU = "cuda"
DEVICES = ("auto", "cpu", "cuda")  # what the option may be

log = logging.getLogger(__name__)


def compute_device(wanted: str) -> torch.device:
    """The device of the option ``device``: ``auto`` is the GPU where torch finds one.

    On a GPU float32 stays float32: TF32, in which torch computes convolutions by default, would
    round what is clipped otherwise than what its norm is taken of.

    Raises:
        UsageError: ``cuda`` without a GPU, or none of ``auto``, ``cpu`` and ``cuda``.
    """
    if wanted not in DEVICES:
        raise UsageError(f"device={wanted}: must be auto, cpu or cuda")
    if wanted == "cpu" or (wanted == "auto" and not _gpu_is_there()):
        return CPU
    if not _gpu_is_there():
        raise UsageError(
            f"device=cuda: torch {torch.__version__} finds no GPU; use device=cpu, or install the"
            " GPU's driver and a torch that is built for it"
        )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device(GPU)


def client_device(wanted: str) -> torch.device:
    """:func:`compute_device`, for a client whose GPU may be gone: it is slower then, and loses no
    round. Its log says so.

    Raises:
        UsageError: none of ``auto``, ``cpu`` and ``cuda``.
    """
    if wanted == GPU and not _gpu_is_there():
        log.warning("device=%s: torch finds no GPU; this client trains on the processor", wanted)
        return CPU
    return compute_device(wanted)


def _gpu_is_there() -> bool:
    return bool(torch.get_device_module(GPU).is_available())


def device_of(model: nn.Module) -> torch.device:
    """Where ``model`` is; the processor where it has no parameters."""
    parameter = next(model.parameters(), None)
    return CPU if parameter is None else parameter.device


@contextmanager
def moved(device: torch.device, *models: nn.Module) -> Iterator[None]:
    """Let ``models`` be on ``device`` for a while, and then where they were."""
    homes = [device_of(model) for model in models]
    for model in models:
        model.to(device)
    try:
        yield
    finally:
        for model, home in zip(models, homes, strict=True):
            model.to(home)


@contextmanager
def memory_explained() -> Iterator[None]:
    """A GPU whose memory is full, in words.

    Raises:
        FedliteError: the work inside found no memory on the GPU.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FedliteError(
            "the GPU's memory is full; use fewer engine.num_workers, a smaller student or teacher,"
            " smaller batches, or device=cpu"
        ) from error


def hardware_name(device: torch.device) -> str:
    """What computes there: a GPU by its name, a processor by what torch uses of it."""
    if device.type == "cpu":
        return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return str(torch.get_device_module(device).get_device_name(device))
