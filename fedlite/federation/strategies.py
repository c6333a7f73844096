"""Flower's strategies by name, and their state as plain tensors for checkpoints."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx

from fedlite.config import StrategyConfig
from fedlite.federation.messages import ARRAYS, CONFIG, WEIGHT, State, to_arrays, to_state

# What Flower's classes keep between rounds.
_STATE_FIELDS = ("current_arrays", "momentum_vector", "m_t", "v_t")


def build_strategy(config: StrategyConfig) -> FedAvg:
    """Build the Flower strategy; every one weights all clients by the constant 1 (rule 3)."""
    shared: dict[str, Any] = {
        "fraction_train": 1.0,  # the cohort is drawn before Flower sees it
        "fraction_evaluate": 0.0,
        "min_train_nodes": 0,
        "min_available_nodes": 0,
        "weighted_by_key": WEIGHT,
        "arrayrecord_key": ARRAYS,
        "configrecord_key": CONFIG,
    }
    match config.name:
        case "fedprox":
            return FedProx(**shared, proximal_mu=config.proximal_mu)
        case "fedadam":
            return FedAdam(
                **shared,
                eta=config.learning_rate,
                beta_1=config.beta_1,
                beta_2=config.beta_2,
                tau=config.tau,
            )
        case "fedavgm":
            return FedAvgM(
                **shared,
                server_learning_rate=config.learning_rate,
                server_momentum=config.momentum,
            )
        case _:
            return FedAvg(**shared)


class _CohortGrid:
    """The view of a grid in which only this round's cohort is connected."""

    def __init__(self, node_ids: list[int]) -> None:
        self._node_ids = node_ids

    def get_node_ids(self) -> list[int]:
        return self._node_ids


def configure_round(
    strategy: FedAvg, server_round: int, state: State, config: ConfigRecord, node_ids: list[int]
) -> list[Message]:
    """The strategy's train messages for ``node_ids``, in that order."""
    grid: Grid = _CohortGrid(node_ids)  # type: ignore[assignment]
    messages = strategy.configure_train(server_round, to_arrays(state), config, grid)
    order = {node_id: index for index, node_id in enumerate(node_ids)}
    return sorted(messages, key=lambda message: order[message.metadata.dst_node_id])


def aggregate_round(
    strategy: FedAvg, server_round: int, state: State, replies: Iterable[Message]
) -> State:
    """The strategy's next state from checked replies in client order; unchanged without replies.

    Flower's adaptive strategies promote to float64: the result takes the types of ``state``.
    """
    arrays, _ = strategy.aggregate_train(server_round, list(replies))
    if arrays is None:
        return state
    merged = to_state(arrays)
    return {name: merged[name].to(value.dtype) for name, value in state.items()}


def strategy_state(strategy: FedAvg) -> dict[str, Any]:
    """What the strategy keeps between rounds, as tensors in plain containers."""
    return {
        name: _to_plain(getattr(strategy, name))
        for name in _STATE_FIELDS
        if getattr(strategy, name, None) is not None
    }


def restore_strategy(strategy: FedAvg, saved: dict[str, Any]) -> None:
    """Put back what :func:`strategy_state` took."""
    for name, value in saved.items():
        if name == "current_arrays" and isinstance(strategy, FedAvgM):
            strategy.current_arrays = to_arrays(value)
        elif isinstance(value, dict):
            setattr(strategy, name, {key: tensor.numpy() for key, tensor in value.items()})
        else:
            setattr(strategy, name, [tensor.numpy() for tensor in value])


def _to_plain(value: Any) -> Any:
    if isinstance(value, ArrayRecord):
        return to_state(value)
    if isinstance(value, dict):
        return {key: torch.from_numpy(np.array(array)) for key, array in value.items()}
    return [torch.from_numpy(np.array(array)) for array in value]
