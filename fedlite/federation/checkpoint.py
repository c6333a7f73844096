"""One checkpoint per run, replaced atomically after every round. Ledgers are never part of it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlite.base.records import Evaluation, RoundRecord
from fedlite.base.tensors import load_tensors, save_tensors
from fedlite.federation.messages import State


@dataclass(frozen=True)
class Checkpoint:
    """The server after ``round`` finished rounds.

    ``state`` is the model the next round starts from, ``average`` its exponential average (equal
    to ``state`` when averaging is off), ``strategy`` what the Flower strategy keeps, ``contexts``
    the clients' Flower contexts by node id, ``clip`` the norm that an adaptive clip has reached.
    """

    round: int
    state: State
    average: State
    strategy: dict[str, Any]
    epsilons: list[float]
    history: list[RoundRecord]
    contexts: dict[int, bytes]
    clip: float | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint so that it is whole or the one before."""
    save_tensors(
        path,
        {
            "round": checkpoint.round,
            "state": checkpoint.state,
            "average": checkpoint.average,
            "strategy": checkpoint.strategy,
            "epsilons": checkpoint.epsilons,
            "history": json.dumps([dataclasses.asdict(record) for record in checkpoint.history]),
            "contexts": {i: _to_tensor(raw) for i, raw in checkpoint.contexts.items()},
            "clip": checkpoint.clip,
        },
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        FedliteError: missing or damaged file.
    """
    raw = load_tensors(path)
    return Checkpoint(
        round=raw["round"],
        state=raw["state"],
        average=raw["average"],
        strategy=raw["strategy"],
        epsilons=raw["epsilons"],
        history=[to_round_record(values) for values in json.loads(raw["history"])],
        contexts={i: value.numpy().tobytes() for i, value in raw["contexts"].items()},
        clip=raw["clip"],
    )


def to_round_record(values: dict[str, Any]) -> RoundRecord:
    """Rebuild a round's record from its dictionary."""
    evaluation = values["evaluation"]
    rebuilt = Evaluation(**evaluation) if evaluation is not None else None
    return RoundRecord(**{**values, "evaluation": rebuilt})


def _to_tensor(raw: bytes) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0)
