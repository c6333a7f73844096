"""Flower's strategies by name, and what they keep between rounds as plain tensors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from torch import Tensor

from fedlite.federation.arrays import decode
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    TRAIN,
    WEIGHT,
    State,
    arrays_in,
    to_arrays,
    to_state,
)
from fedlite.federation.options import STRATEGIES, StrategyOptions

# Every strategy weights all clients by the constant 1 (rule 3).
SHARED: dict[str, Any] = {
    "fraction_train": 1.0,  # the cohort is drawn before Flower sees it
    "fraction_evaluate": 0.0,
    "min_train_nodes": 0,
    "min_available_nodes": 0,
    "weighted_by_key": WEIGHT,
    "arrayrecord_key": ARRAYS,
    "configrecord_key": CONFIG,
}


@dataclass(frozen=True)
class StrategyKind:
    """How a Flower strategy is built, and what a checkpoint must hold of it.

    ``build`` takes the options and the arguments that all strategies share. ``kept`` names the
    attributes that live from round to round, each with what makes it again of plain tensors.
    """

    build: Callable[[StrategyOptions, dict[str, Any]], FedAvg]
    kept: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


class Strategy:
    """The strategy of a run: Flower's own, asked with the cohort alone in sight."""

    def __init__(self, options: StrategyOptions) -> None:
        kind: StrategyKind = STRATEGIES.find(options.name)
        self._kept = kind.kept
        self.flower = kind.build(options, SHARED)

    def configure(
        self, server_round: int, state: State, config: ConfigRecord, node_ids: list[int]
    ) -> list[Message]:
        """The train messages for ``node_ids``, in that order."""
        grid: Grid = _CohortGrid(node_ids)  # type: ignore[assignment]
        messages = self.flower.configure_train(server_round, to_arrays(state), config, grid)
        order = {node_id: index for index, node_id in enumerate(node_ids)}
        return sorted(messages, key=lambda message: order[message.metadata.dst_node_id])

    def aggregate(self, server_round: int, state: State, replies: Iterable[Message]) -> State:
        """The next state from checked replies in client order; unchanged without replies.

        Flower's adaptive strategies promote to float64: the result takes the types of ``state``.
        """
        arrays, _ = self.flower.aggregate_train(server_round, [_readable(one) for one in replies])
        if arrays is None:
            return state
        merged = to_state(arrays)
        return {name: merged[name].to(value.dtype) for name, value in state.items()}

    def state(self) -> dict[str, Any]:
        """What is kept between rounds, as tensors in plain containers."""
        found = {name: getattr(self.flower, name, None) for name in self._kept}
        return {name: _to_plain(value) for name, value in found.items() if value is not None}

    def restore(self, saved: dict[str, Any]) -> None:
        """Put back what :meth:`state` took."""
        for name, value in saved.items():
            setattr(self.flower, name, self._kept[name](value))


class _Readable(Array):
    """An array that Flower's strategies read as fast as fedlite does.

    Not for the wire, where a class of another name is not known.
    """

    def __init__(self, received: Array) -> None:
        vars(self).update(vars(received))

    def numpy(self) -> NDArray[Any]:
        return decode(self)


def _readable(reply: Message) -> Message:
    """A reply of the same content, for a strategy's eyes alone: it is sent to nobody."""
    arrays = ArrayRecord()
    for name, one in arrays_in(reply.content).items():
        arrays[name] = _Readable(one)
    content = RecordDict({ARRAYS: arrays, METRICS: reply.content[METRICS]})
    return Message(content, reply.metadata.dst_node_id, TRAIN)


class _CohortGrid:
    """The view of a grid in which only this round's cohort is connected."""

    def __init__(self, node_ids: list[int]) -> None:
        self._node_ids = node_ids

    def get_node_ids(self) -> list[int]:
        return self._node_ids


def numpy_dict(saved: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Arrays by name, as Flower's adaptive strategies keep them."""
    return {key: tensor.numpy() for key, tensor in saved.items()}


def numpy_list(saved: Iterable[Tensor]) -> list[np.ndarray]:
    """Arrays in order, as Flower's FedAvgM keeps them."""
    return [tensor.numpy() for tensor in saved]


def _to_plain(value: Any) -> Any:
    if isinstance(value, ArrayRecord):
        return to_state(value)
    if isinstance(value, dict):
        return {key: torch.from_numpy(np.array(array)) for key, array in value.items()}
    return [torch.from_numpy(np.array(array)) for array in value]
