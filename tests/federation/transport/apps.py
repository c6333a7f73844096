"""Client apps whose workers die as they are told, and import little to start with."""

import os
import sys
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlite.federation.simulation import SIMULATION, open_simulation

TRAIN, COUNT, WHERE, WEIGH = "train", "query.count", "query.where", "query.weigh"
WEIGHT = 200_000_000  # bytes

mortal, knowing = ClientApp(), ClientApp()


def let_die(folder: Path, client: int, times: int) -> None:
    (folder / str(client)).write_text("die\n" * times)


def _die_as_told(context: Context) -> None:
    """End the process at once, as ``kill -9`` does, if a file still says so for this client; the
    file has a line less afterwards."""
    path = Path(str(context.run_config["deaths"])) / str(context.node_config["partition-id"])
    lines = path.read_text().splitlines() if path.exists() else []
    if lines:
        path.write_text("\n".join(lines[1:]))
        os._exit(1)


def _answer(message: Message, context: Context) -> Message:
    path = Path(str(context.run_config["deaths"])) / "asked"
    with path.open("a") as file:
        file.write(f"{context.node_config['partition-id']}\n")
    _die_as_told(context)
    seen = context.state.config_records.get("seen", ConfigRecord({"times": 0}))
    times = int(str(seen["times"])) + 1
    context.state["seen"] = ConfigRecord({"times": times})
    return Message(RecordDict({"answer": ConfigRecord({"times": times})}), reply_to=message)


@mortal.train()
def train(message: Message, context: Context) -> Message:
    """Count the rounds of this client."""
    return _answer(message, context)


@mortal.query("count")
def count(message: Message, context: Context) -> Message:
    """Count as in training."""
    return _answer(message, context)


@mortal.query("where")
def where(message: Message, context: Context) -> Message:
    """Whose child this process is, and whether it has what training needs."""
    found = {"parent": os.getppid(), "ready": "opacus" in sys.modules}
    return Message(RecordDict({"answer": ConfigRecord(found)}), reply_to=message)


@mortal.query("weigh")
def weigh(message: Message, context: Context) -> Message:
    """Take memory and give it back."""
    bytearray(WEIGHT)
    return Message(RecordDict(), reply_to=message)


@knowing.train()
def tell(message: Message, context: Context) -> Message:
    """Whether the worker shares its parent's memory, and what the client's examples sum up to."""
    _die_as_told(context)
    splits = open_simulation(str(context.run_config[SIMULATION])).splits
    total = float(splits.client(int(str(context.node_config["partition-id"]))).inputs.sum())
    told = ConfigRecord({"shared": splits._inputs.is_shared(), "total": total})
    return Message(RecordDict({"answer": told}), reply_to=message)
