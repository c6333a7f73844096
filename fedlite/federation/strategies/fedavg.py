"""The average of the replies (McMahan et al. 2017)."""

from flwr.serverapp.strategy import FedAvg

from fedlite.federation.strategy import StrategyKind

STRATEGY = StrategyKind(lambda options, shared: FedAvg(**shared))
