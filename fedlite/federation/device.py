"""What a device owns: its policy first, then its data, then its ledger; nothing from the server.

All of it comes from Flower's node config, which the owner sets on the device and no server can:
``policy`` names the file with the owner's rules (docs/device-policy.md), ``data`` an .npz archive
with ``inputs`` (raw) and ``labels``, ``ledger-dir`` where the ledger lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.types import ClientData, Task
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.policy import Policy, load_policy

POLICY, DATA, LEDGER_DIR = "policy", "data", "ledger-dir"  # keys of a node config


@dataclass(frozen=True)
class Device:
    """The owner's rules, where the examples lie, and the ledger of what they have spent.

    ``data`` is None for a device inside a simulation, which holds a share of the simulated data.
    """

    policy: Policy
    data: Path | None
    ledger: Ledger

    @classmethod
    def of(cls, node_config: Mapping[str, Any]) -> "Device | None":
        """The device that a node config describes; None where it names neither policy nor data.

        The policy is read for every message, so that an owner's change holds at once. Paths are
        counted from the policy's folder, which is also the ledger's default: never from where the
        process was started, for elsewhere the budget would begin anew.

        Raises:
            UsageError: the policy cannot be used, or is missing beside the data.
        """
        if POLICY not in node_config:
            if DATA in node_config:
                raise UsageError(
                    f"{POLICY}: missing in the node config; a device's own examples are trained"
                    " with by its owner's rules only (docs/device-policy.md)"
                )
            return None
        path = Path(str(node_config[POLICY])).absolute()
        policy = load_policy(path)
        data = path.parent / str(node_config[DATA]) if DATA in node_config else None
        folder = path.parent / str(node_config.get(LEDGER_DIR, ""))
        return cls(policy, data, open_ledger(folder, policy))


def open_ledger(folder: Path, policy: Policy, *, sync: bool = True) -> Ledger:
    """The ledger of the data set that ``policy`` is for; its id names the file.

    ``sync`` False is for simulated clients, whose charges their machine flushes by cohort.
    """
    return Ledger(folder / f"{policy.data_set}.ledger", policy.data_set, sync=sync)


def read_data(path: Path, task: Task, client_id: int) -> ClientData:
    """The device's examples, prepared as the task says; read again when the file changes.

    Raises:
        UsageError: no such archive, or arrays that do not fit the task.
    """
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read_data(path, changed, task, client_id)


@lru_cache(maxsize=1)
def _read_data(path: Path, changed: int, task: Task, client_id: int) -> ClientData:
    arrays = read_arrays(path, {"inputs": "inputs", "labels": "labels"})
    inputs, labels = arrays["inputs"], arrays["labels"]
    # What is said here reaches the server, so it does not say how many examples there are.
    if inputs.dtype.kind not in "biuf":
        raise UsageError(f"{path}: inputs of type {inputs.dtype}; expected numbers")
    if inputs.shape[1:] != task.input_shape or len(inputs) == 0:
        raise UsageError(
            f"{path}: inputs of shape {_shape(inputs.shape[1:])}; expected"
            f" {_shape(task.input_shape)} with n of 1 or more"
        )
    whole = labels.dtype.kind in "iu" and labels.shape == (len(inputs),)
    if not whole or labels.min() < 0 or labels.max() >= task.num_classes:
        raise UsageError(
            f"{path}: labels must be one whole number from 0 to {task.num_classes - 1} an input"
        )
    prepared = task.prepare(torch.from_numpy(inputs))
    return ClientData(client_id, prepared, torch.from_numpy(labels.astype("int64")))


def _shape(each: tuple[int, ...]) -> str:
    """The shape of n inputs, in words."""
    return f"({', '.join(['n', *map(str, each)])})"
