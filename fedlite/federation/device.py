"""What a device owns: its policy first, then its data, then its ledger; nothing from the server.

All of it comes from Flower's node config, which the owner sets on the device and no server can:
``policy`` names the file with the owner's rules (docs/device-policy.md), ``data`` the examples
where the policy does not, ``ledger-dir`` where the ledger lies, ``device`` where networks compute.
A node holds a share of a simulated world, which is the server's, only if its own config says
``simulated=true``.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedlite.base.errors import UsageError
from fedlite.data.types import Normalise, Task
from fedlite.distill.options import LOSSES
from fedlite.federation.client_options import ClientOptions
from fedlite.federation.examples import Examples, open_examples, preparation
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.policy import DataRules, Policy, forbidden_code, load_policy

POLICY, DATA, LEDGER_DIR, SIMULATED = "policy", "data", "ledger-dir", "simulated"
COMPUTE = "device"
CLASS = "class"
"""Keys of a node config."""

TOLERANCE = 1e-3  # relative, of constants that were rounded when they were written down


@dataclass(frozen=True)
class Device:
    """The owner's rules, where the examples lie, and the ledger of what they have spent.

    ``data`` is None for a device inside a simulation, which holds a share of the simulated data.
    """

    policy: Policy
    data: Path | None
    ledger: LedgerFile

    @classmethod
    def of(cls, node_config: Mapping[str, Any]) -> "Device | None":
        """The device that a node config describes; None where it names neither policy nor data.

        The policy is read for every message, so that an owner's change holds at once. Paths are
        counted from the policy's folder, which is also the ledger's default: never from where the
        process was started, for elsewhere the budget would begin anew.

        Raises:
            UsageError: the policy cannot be used, or is missing beside the data, or it does not
                say how the data are read.
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
        named = [str(node_config[DATA])] if DATA in node_config else []
        if policy.data is not None and policy.data.file is not None:
            named.append(policy.data.file)
        if len(named) > 1:
            raise UsageError(
                f"policy {path}: data.file: the node config's {DATA} names the examples already;"
                " give one of the two"
            )
        if named and policy.data is None:
            raise UsageError(
                f"policy {path}: data: missing; say there how the examples are read: input_shape,"
                " class_names, and the public constants mean and std (docs/device-policy.md)"
            )
        data = path.parent / named[0] if named else None
        folder = path.parent / str(node_config.get(LEDGER_DIR, ""))
        return cls(policy, data, open_ledger(folder, policy))

    def examples(self, client_id: int) -> Examples:
        """The device's own examples.

        Raises:
            UsageError: they cannot be read as the policy says.
        """
        assert self.data is not None
        return open_examples(self.data, self.policy, client_id)

    def refusal(self, options: ClientOptions) -> str:
        """Why this device takes no part in a run of these options; "" when it does.

        A function of policy and options alone. The run's task must be the one that the policy
        describes: a network for other inputs, classes or normalisation would learn nothing here.
        """
        assert self.policy.data is not None
        return forbidden_code(self.policy, named_code(options)) or task_difference(
            self.policy.data, options.task
        )

    def own_task(self, options: ClientOptions) -> ClientOptions:
        """The options with the task as the policy has it, to the last digit."""
        rules = self.policy.data
        assert rules is not None
        task = replace(
            options.task,
            input_shape=rules.input_shape,
            class_names=rules.class_names,
            preprocessing=preparation(rules),
        )
        return replace(options, task=task)


def class_difference(node_config: Mapping[str, Any], options: ClientOptions) -> str:
    """That a run is for another class of students than its owner says of a node; "" if it is not.

    So a server cannot move it to another class: one whose students it may not hold.
    """
    own, theirs = str(node_config.get(CLASS, "")), options.class_name
    if own == theirs:
        return ""
    run = f"is for class {theirs!r}" if theirs else "is for no class of students"
    return f"the run {run}, this client's node config says {CLASS}={own or 'none'}"


def named_code(options: ClientOptions) -> Iterator[str]:
    """All paths by which a server names code that a client would import: networks, what networks
    are made of, and a loss that is not one of fedlite's own."""
    for network in (options.teacher, options.student):
        yield network.module
        yield from _paths(network.kwargs)
    if options.loss.loss not in LOSSES.names():
        yield options.loss.loss


def _paths(value: Any) -> Iterator[str]:
    """Every text with a dot within plain nested values: none of fedlite's short names has one."""
    if isinstance(value, str) and "." in value:
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(key)
            yield from _paths(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner)


def task_difference(rules: DataRules, task: Task) -> str:
    """What of a run's task is not as the owner's rules have it, in words; "" if nothing is."""
    if not isinstance(task.preprocessing, Normalise):
        return "the run's inputs: texts, which a device cannot hold yet"
    own, theirs = (
        [constants.scale, *constants.mean, *constants.std]
        for constants in (preparation(rules), task.preprocessing)
    )
    if tuple(task.input_shape) != rules.input_shape:
        differs = "input shape"
    elif tuple(task.class_names) != rules.class_names:
        differs = "classes"
    elif len(own) != len(theirs) or not all(map(_close, own, theirs)):
        differs = "normalisation"
    else:
        return ""
    return f"the run's {differs}: not as in this client's policy"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-9)


def open_ledger(folder: Path, policy: Policy) -> LedgerFile:
    """The ledger of the data set that ``policy`` is for; its id names the file."""
    return LedgerFile(folder / f"{policy.data_set}.ledger", policy.data_set)
