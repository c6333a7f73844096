"""One client: who it is, its rules, its ledger, its examples, and the bench it works at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context

from fedlite.base.errors import UsageError
from fedlite.data.types import ClientData
from fedlite.federation.client_options import CLIENT_OPTIONS, ClientOptions
from fedlite.federation.device import (
    CLASS,
    COMPUTE,
    DATA,
    LEDGER_DIR,
    POLICY,
    SIMULATED,
    Device,
    class_difference,
)
from fedlite.federation.simulation import SIMULATION, open_simulation
from fedlite.federation.workbench import Workbench, open_workbench
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.policy import Policy, refusal

PARTITION_ID = "partition-id"  # Flower's name


@dataclass(frozen=True)
class Client:
    """What answers a request: its rules, and behind them what is read only when they allow it.

    ``folder`` is where it keeps received teachers, ``compute`` where its networks compute, as the
    option ``device`` has it, ``unfit`` why it takes no part in any request of the run, beside what
    :func:`fedlite.privacy.policy.refusal` says of each.
    """

    client_id: int
    policy: Policy
    options: ClientOptions
    ledger: Ledger
    folder: Path
    read: Callable[[], ClientData]
    compute: str = "cpu"
    unfit: str = ""

    @property
    def data(self) -> ClientData:
        """The client's private examples."""
        return self.read()

    @property
    def workbench(self) -> Workbench:
        """The networks of the run; built when first asked for."""
        return open_workbench(self.options.to_json(), self.folder, self.compute)

    def refusal(self, plan: PrivacyPlan | None) -> str:
        """Why this client takes no part in a request, or ""; nothing is read to say so."""
        return refusal(self.policy, plan, self.options.unit) or self.unfit

    @classmethod
    def of(cls, context: Context) -> "Client":
        """The client that a Flower context belongs to.

        A device has rules of its own, a client of a simulation those of the run. Both are one to
        everything after this. The rules are read before anything that the server sent.

        Raises:
            UsageError: the node config, the policy or what the server sent of the run cannot be
                used.
        """
        node = context.node_config
        device = Device.of(node)
        if device is not None and device.data is not None:
            return cls._on_device(device, context)
        return cls._simulated(device, context)

    @classmethod
    def _on_device(cls, device: Device, context: Context) -> "Client":
        client_id = number_of(context.node_config)
        options = _options(str(context.run_config[CLIENT_OPTIONS]))
        return cls(
            client_id,
            device.policy,
            device.own_task(options),
            device.ledger,
            device.ledger.path.parent,
            read=lambda: device.examples(client_id).data,
            compute=_compute(context.node_config),
            unfit=class_difference(context.node_config, options) or device.refusal(options),
        )

    @classmethod
    def _simulated(cls, device: Device | None, context: Context) -> "Client":
        node, run = context.node_config, context.run_config
        if node.get(SIMULATED) is not True:
            raise UsageError(
                f"{DATA}: missing; name the device's own examples in its policy (data.file), or say"
                f" {SIMULATED}=true in the node config of a simulated client"
                if POLICY in node
                else f"{POLICY}: missing in the node config; a device answers by its owner's rules"
                " only (docs/device-policy.md)"
            )
        client_id = number_of(node)
        world = open_simulation(str(run[SIMULATION]))
        own = str(node[LEDGER_DIR]) if LEDGER_DIR in node else None
        options = _options(str(run[CLIENT_OPTIONS]))
        return cls(
            client_id,
            device.policy if device else world.client_policy(client_id),
            options,
            device.ledger if device else world.client_ledger(client_id, own),
            Path(world.options.folder),
            read=lambda: world.client_data(client_id),
            compute=_compute(node),
            unfit=class_difference(node, options) if CLASS in node else "",
        )


def number_of(node_config: Mapping[str, Any]) -> int:
    """The client's number, by which the server knows it.

    Raises:
        UsageError: the node config has none.
    """
    number = node_config.get(PARTITION_ID)
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{PARTITION_ID}: must be a whole number in the node config")
    return number


def _compute(node_config: Mapping[str, Any]) -> str:
    """Where the owner lets networks compute: a GPU only where the node config says so."""
    return str(node_config.get(COMPUTE, "cpu"))


@lru_cache(maxsize=4)
def _options(text: str) -> ClientOptions:
    """Clients that share a process read what they were all sent once."""
    return ClientOptions.from_json(text)
