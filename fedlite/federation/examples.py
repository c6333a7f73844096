"""A device's own examples, read and prepared by its owner's rules alone.

What one example holds decides about that example alone: one whose label is no class, or whose
values are not finite, is left out, and no other notices. A reply that failed because of it would
tell the server exactly that it is there. What is wrong with a file as a whole is an error, and the
owner's affair: ``fedlite device`` says it before a server asks.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
import torch

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.raw import Array
from fedlite.data.tables import read_columns
from fedlite.data.types import ClientData, Normalise
from fedlite.privacy.policy import DataRules, Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """What a file holds: the prepared examples, and how many were left out."""

    path: Path
    data: ClientData
    left_out: int

    def too_many(self, policy: Policy) -> str:
        """Whether the policy's delta has no meaning for so many examples, in one line; "" if it
        has. For the owner alone: a reply that hung on it would tell how many there are."""
        if policy.max_delta * len(self.data) < 1:
            return ""
        return (
            f"max_delta: {policy.max_delta:g} must be below 1/n of the {len(self.data)} examples in"
            f" {self.path} (1/n = {1 / len(self.data):.2g})"
        )

    def without(self) -> str:
        """What was left out, in one line for the owner; "" if nothing was."""
        if not self.left_out:
            return ""
        return (
            f"{self.path}: {self.left_out} of {len(self.data) + self.left_out} examples are left"
            " out: their label is none of data.class_names, or a value is not a finite number"
        )


def open_examples(path: Path, policy: Policy, client_id: int) -> Examples:
    """The examples in ``path``; read again when the file changes. Tells the owner's log of those
    that were left out, and of a delta that is too large for so many.

    Raises:
        UsageError: no such file, or one that is not as ``policy.data`` says.
    """
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _open_examples(path, changed, policy, client_id)


@lru_cache(maxsize=1)
def _open_examples(path: Path, changed: int, policy: Policy, client_id: int) -> Examples:
    assert policy.data is not None
    examples = read_examples(path, policy.data, client_id)
    for line in filter(None, (examples.too_many(policy), examples.without())):
        log.warning("%s", line)
    return examples


def read_examples(path: Path, rules: DataRules, client_id: int) -> Examples:
    """Read and prepare an .npz archive or a .csv file.

    Raises:
        UsageError: no such file, or one that is not as the rules say.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; data.file in the policy names the examples")
    if path.suffix == ".csv":
        inputs, labels = read_columns(path, rules.inputs, rules.labels, "data")
        if prod(rules.input_shape) != len(rules.inputs):
            raise UsageError(
                f"{path}: {len(rules.inputs)} columns in data.inputs are not one example of shape"
                f" {list(rules.input_shape)}"
            )
        inputs = inputs.reshape(-1, *rules.input_shape)
    else:
        inputs, labels = _archive(path, rules)
    classes = _classes(labels, rules.class_names)
    if inputs.dtype != np.uint8:
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32)
    prepared = preparation(rules)(torch.from_numpy(inputs))
    fits = torch.isfinite(prepared).flatten(1).all(dim=1) & (classes >= 0)
    data = ClientData(client_id, prepared[fits], classes[fits])
    return Examples(path, data, left_out=len(classes) - len(data))


def preparation(rules: DataRules) -> Normalise:
    """What the rules do to raw inputs: given constants, one for each leading dimension."""
    channels = rules.input_shape[0]
    mean, std = (
        value * channels if len(value) == 1 else value for value in (rules.mean, rules.std)
    )
    return Normalise(scale=rules.scale, mean=mean, std=std)


def _archive(path: Path, rules: DataRules) -> tuple[Array, Array]:
    if len(rules.inputs) != 1:
        raise UsageError(f"{path}: data.inputs must name the one array that holds the inputs")
    arrays = read_arrays(path, {"inputs": rules.inputs[0], "labels": rules.labels}, option="data")
    inputs, labels = arrays["inputs"], arrays["labels"]
    if inputs.dtype.kind not in "biuf":
        raise UsageError(f"{path}: inputs of type {inputs.dtype}; expected numbers")
    if inputs.shape[1:] != rules.input_shape:
        raise UsageError(
            f"{path}: inputs of shape {inputs.shape}; data.input_shape says"
            f" (n, {', '.join(map(str, rules.input_shape))})"
        )
    if labels.shape != (len(inputs),) or labels.dtype.kind not in "biufU":
        raise UsageError(
            f"{path}: labels of type {labels.dtype} and shape {labels.shape}; expected one whole"
            f" number or name for each of the {len(inputs)} inputs"
        )
    return inputs, labels


def _classes(labels: Array, class_names: tuple[str, ...]) -> torch.Tensor:
    """Labels (n,), names or places, as places among the class names; -1 for what is none of them.

    A place may be written as text: one text among numbers makes all of an archive's labels text.
    """
    if labels.dtype.kind in "UO":
        places = {str(place): place for place in range(len(class_names))}
        places |= {name: place for place, name in enumerate(class_names)}
        return torch.tensor([places.get(str(label), -1) for label in labels], dtype=torch.int64)
    values = labels.astype(np.float64)
    known = (values >= 0) & (values < len(class_names)) & (values == np.floor(values))
    return torch.from_numpy(np.where(known, values, -1).astype(np.int64))
