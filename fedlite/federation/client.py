"""One client: who it is, its rules, its ledger, its examples, and the bench it works at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from fedlite.base.errors import UsageError
from fedlite.data.types import ClientData
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.device import DATA, LEDGER_DIR, Device, read_data
from fedlite.federation.simulation import SIMULATION, open_simulation
from fedlite.federation.workbench import Workbench, open_workbench
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.policy import Policy

PARTITION_ID = "partition-id"  # Flower's name


@dataclass(frozen=True)
class Client:
    """What answers a request. ``read`` gives the examples; policy and ledger come before them."""

    client_id: int
    policy: Policy
    ledger: Ledger
    workbench: Workbench
    read: Callable[[], ClientData]

    @property
    def data(self) -> ClientData:
        """The client's private examples."""
        return self.read()

    @classmethod
    def of(cls, context: Context) -> "Client":
        """The client that a Flower context belongs to.

        A device has rules of its own, a client of a simulation those of the run. Both are one to
        everything after this.

        Raises:
            UsageError: the policy, the data or what the server sent of the run cannot be used.
        """
        node, run = context.node_config, context.run_config
        client_id = int(node[PARTITION_ID])
        device = Device.of(node)
        options = str(run[CLIENT_OPTIONS])
        if device is not None and device.data is not None:
            workbench = open_workbench(options, device.data.parent)
            data, task = device.data, workbench.options.task
            return cls(
                client_id,
                device.policy,
                device.ledger,
                workbench,
                lambda: read_data(data, task, client_id),
            )
        if SIMULATION not in run:
            raise UsageError(f"{DATA}: missing in the node config; give the device's own examples")
        world = open_simulation(str(run[SIMULATION]))
        own = str(node[LEDGER_DIR]) if LEDGER_DIR in node else None
        return cls(
            client_id,
            device.policy if device else world.client_policy(client_id),
            device.ledger if device else world.client_ledger(client_id, own),
            open_workbench(options, Path(world.options.folder)),
            lambda: world.client_data(client_id),
        )
