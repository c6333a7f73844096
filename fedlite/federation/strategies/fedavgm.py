"""The average with momentum on the server (Hsu, Qi and Brown 2019)."""

from flwr.serverapp.strategy import FedAvgM

from fedlite.federation.messages import to_arrays
from fedlite.federation.strategy import StrategyKind, numpy_list

STRATEGY = StrategyKind(
    lambda options, shared: FedAvgM(
        **shared, server_learning_rate=options.learning_rate, server_momentum=options.momentum
    ),
    kept={"current_arrays": to_arrays, "momentum_vector": numpy_list},
)
