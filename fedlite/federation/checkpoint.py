"""One checkpoint per run, replaced atomically after every round. Ledgers are never part of it.

A file grows with the rounds and with the clients that took part, not with those that wait: a round
holds only the epsilons that it changed, and what many clients keep alike is held once.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from flwr.proto.message_pb2 import Context as ContextProto
from torch import Tensor

from fedlite.base.records import Evaluation, RoundRecord
from fedlite.base.tensors import load_tensors, save_tensors
from fedlite.federation.buffered import AtWork
from fedlite.federation.messages import State


@dataclass(frozen=True)
class Checkpoint:
    """The server after ``round`` finished rounds.

    ``state`` is the model the next round starts from, ``average`` its exponential average (equal
    to ``state`` when averaging is off), ``strategy`` what the Flower strategy keeps, ``contexts``
    what clients keep (Flower's RecordDict) by node id, ``clip`` the norm that an adaptive clip has
    reached, ``working`` which clients are at work and what they will send (asynchronous fleets).
    """

    round: int
    state: State
    average: State
    strategy: dict[str, Any]
    epsilons: list[float]
    history: list[RoundRecord]
    contexts: dict[int, bytes]
    clip: float | None = None
    working: dict[int, AtWork] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint, lines: list[bytes] | None = None) -> None:
    """Write the checkpoint so that it is whole or the one before.

    Args:
        lines: what earlier calls made of the history's first rounds; the others' are added.
    """
    lines = [] if lines is None else lines
    for record in checkpoint.history[len(lines) :]:
        lines.append(_line(record, checkpoint.history[len(lines) - 1] if lines else None))
    save_tensors(
        path,
        {
            "round": checkpoint.round,
            "state": checkpoint.state,
            "average": checkpoint.average,
            "strategy": checkpoint.strategy,
            "epsilons": torch.tensor(checkpoint.epsilons, dtype=torch.float64),
            "rounds": _to_tensor(b"".join(lines)),
            "kept": _shared(checkpoint.contexts),
            "clip": checkpoint.clip,
            "working": {client: vars(one) for client, one in checkpoint.working.items()},
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
        epsilons=torch.as_tensor(raw["epsilons"], dtype=torch.float64).tolist(),
        history=list(_read_history(raw)),
        contexts=_read_contexts(raw),
        clip=raw["clip"],
        working={client: AtWork(**one) for client, one in raw.get("working", {}).items()},
    )


def to_round_record(values: dict[str, Any]) -> RoundRecord:
    """Rebuild a round's record from its dictionary."""
    evaluation = values["evaluation"]
    rebuilt = Evaluation(**evaluation) if evaluation is not None else None
    return RoundRecord(**{**values, "evaluation": rebuilt})


def _line(record: RoundRecord, before: RoundRecord | None) -> bytes:
    """A round as a line of JSON; its ``epsilons`` are their number, and those by client that were
    others in the round ``before``, or not 0 in the first."""
    base = _base(before.epsilons if before else [], len(record.epsilons))
    pairs = enumerate(zip(record.epsilons, base, strict=True))
    changed = [(client, now) for client, (now, then) in pairs if now != then]
    values = {
        **vars(record),
        "evaluation": vars(record.evaluation) if record.evaluation else None,
        "epsilons": {"clients": len(base), "changed": changed},
    }
    return json.dumps(values).encode() + b"\n"


def _read_history(raw: Mapping[str, Any]) -> Iterator[RoundRecord]:
    if "history" in raw:  # all epsilons in every round, as it was before
        yield from map(to_round_record, json.loads(raw["history"]))
        return
    epsilons: list[float] = []
    for line in _to_bytes(raw["rounds"]).splitlines():
        values = json.loads(line)
        epsilons = _base(epsilons, values["epsilons"]["clients"])
        for client, epsilon in values["epsilons"]["changed"]:
            epsilons[client] = epsilon
        yield to_round_record({**values, "epsilons": list(epsilons)})


def _base(epsilons: list[float], clients: int) -> list[float]:
    """What the epsilons of a round are told against: those before, or zeros of as many."""
    return epsilons if len(epsilons) == clients else [0.0] * clients


def _shared(contexts: Mapping[int, bytes]) -> list[dict[str, Tensor]]:
    """Each different content once, with all nodes that keep it."""
    nodes: dict[bytes, list[int]] = {}
    for node_id, raw in contexts.items():
        nodes.setdefault(raw, []).append(node_id)
    return [{"content": _to_tensor(raw), "nodes": torch.tensor(ids)} for raw, ids in nodes.items()]


def _read_contexts(raw: Mapping[str, Any]) -> dict[int, bytes]:
    if "contexts" in raw:  # Flower's whole context of every client, as it was before
        whole = {i: ContextProto.FromString(_to_bytes(one)) for i, one in raw["contexts"].items()}
        return {i: context.state.SerializeToString() for i, context in whole.items()}
    found = {
        node_id: _to_bytes(one["content"])
        for one in raw["kept"]
        for node_id in one["nodes"].tolist()
    }
    return dict(sorted(found.items()))


def _to_tensor(raw: bytes) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0)


def _to_bytes(value: Tensor) -> bytes:
    return value.numpy().tobytes()
