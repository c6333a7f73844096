"""Checkpoints of other people: the arrays of a network, however they were wrapped and named.

Nothing is unpickled. What a wrapper put around the arrays (an optimizer beside them, the names of
``DataParallel``, ``torch.compile`` or Lightning before theirs) is taken off.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.base.foreign import log_of
from fedlite.models.scaling import FACTOR, SHIFT

State = dict[str, Tensor]

HOLDERS = ("state_dict", "model_state_dict", "model")  # looked at first; then as the file has them
# What a file may lack: counters of norms, on which no frozen network's answer hangs, and what its
# inputs are multiplied by, which follows from the options.
NOT_NEEDED = ("num_batches_tracked", FACTOR, SHIFT)
DEEPEST = 3  # mappings within each other
SAVE = "save its arrays alone, torch.save(model.state_dict(), path)"


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Copy the arrays of the file at ``path`` into ``model``.

    The file is one of ``torch.save`` or ``.safetensors``. Its state dict may lie within others and
    have one prefix before all names; what lies outside that prefix is left out. Counters of norms
    may be missing, and what is known from options.

    Raises:
        UsageError: the file is missing, holds no state dict or more than arrays and plain values,
            does not fit the model, or has values that are not finite.
    """
    states = read_states(path)
    renamed = (_without_prefix(one, model, path) for one in states)
    state = next((one for one in renamed if not _misfits(one, model)), None)
    if state is None:
        misfits = _misfits(_without_prefix(states[0], model, path), model)
        raise UsageError(f"{path}: does not fit the model: {'; '.join(misfits)}")
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise UsageError(f"{path}: {name} holds values that are not finite")
    model.load_state_dict({**model.state_dict(), **state})


def read_states(path: Path) -> list[State]:
    """Every state dict in the file at ``path``, one or more, the likeliest first.

    Raises:
        UsageError: as :func:`load_checkpoint`.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the path of a saved state dict")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    found = list(_states_in(content, DEEPEST))
    if not found:
        raise UsageError(f"{path}: holds {type(content).__name__}, not a state dict; {SAVE}")
    return found


def read_safetensors(path: Path) -> State:
    """The arrays of a ``.safetensors`` file.

    Raises:
        UsageError: damaged, or no such file.
    """
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:  # a KeyError is a type that torch has not
        raise UsageError(f"{path}: not a .safetensors file, or damaged ({error})") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is none of its own
        log_of(f"{path}: cannot be read", error)
        holds = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {holds[1]}" if holds else "no file of torch.save, or damaged"
        raise UsageError(
            f"{path}: not a state dict that loads without running code ({what}); {SAVE}"
        ) from error


def _states_in(content: Any, depth: int) -> Iterator[State]:
    """The mappings of names to tensors alone in ``content`` and in what it holds."""
    if not isinstance(content, Mapping) or depth == 0:
        return
    if content and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        yield dict(content)
        return
    for key in sorted(content, key=lambda key: key not in HOLDERS):
        yield from _states_in(content[key], depth - 1)


def _without_prefix(state: State, model: nn.Module, path: Path) -> State:
    """``state`` under the names of ``model``, where all of those come with one prefix.

    Raises:
        UsageError: there are two such prefixes.
    """
    own = _needed(model)
    counts = Counter(
        key.removesuffix(name)
        for name in own
        for key in state
        if key == name or key.endswith(f".{name}")
    )
    if not counts or own <= state.keys():
        return state
    whole = [prefix for prefix, count in counts.items() if count == len(own)]
    if len(whole) > 1:
        raise UsageError(
            f"{path}: holds such a network more than once, under {' and '.join(sorted(whole))};"
            " save the one that is the teacher alone"
        )
    prefix = counts.most_common(1)[0][0]
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}


def _needed(model: nn.Module) -> set[str]:
    return {name for name in model.state_dict() if not name.endswith(NOT_NEEDED)}


def _misfits(state: State, model: nn.Module) -> list[str]:
    """What keeps ``state`` from ``model``: a phrase for each kind, with the first and how many."""
    own = model.state_dict()
    missing = [name for name in own if name not in state and name in _needed(model)]
    foreign = [name for name in state if name not in own]
    reshaped = [name for name in own if name in state and state[name].shape != own[name].shape]
    found = []
    if missing:
        found.append(f"{_first_of(missing)} missing, of shape {tuple(own[missing[0]].shape)}")
    if reshaped:
        name = reshaped[0]
        found.append(
            f"{_first_of(reshaped)} of shape {tuple(state[name].shape)} where the model has"
            f" {tuple(own[name].shape)}"
        )
    if foreign:
        shape = tuple(state[foreign[0]].shape)
        found.append(f"{_first_of(foreign)} not in the model, of shape {shape}")
    if FACTOR in foreign:
        found.append("give the teacher.normalise of the run that wrote it")
    return found


def _first_of(names: list[str]) -> str:
    more = len(names) - 1
    return f"'{names[0]}' is" if not more else f"'{names[0]}' and {more} more are"
