"""The average, with a pull of every client towards the round's model (Li et al. 2020)."""

from flwr.serverapp.strategy import FedProx

from fedlite.federation.strategy import StrategyKind

STRATEGY = StrategyKind(lambda options, shared: FedProx(**shared, proximal_mu=options.proximal_mu))
