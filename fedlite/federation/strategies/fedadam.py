"""The average as a gradient of Adam on the server (Reddi et al. 2021)."""

from flwr.serverapp.strategy import FedAdam

from fedlite.federation.strategy import StrategyKind, numpy_dict

STRATEGY = StrategyKind(
    lambda options, shared: FedAdam(
        **shared,
        eta=options.learning_rate,
        beta_1=options.beta_1,
        beta_2=options.beta_2,
        tau=options.tau,
    ),
    kept={"current_arrays": numpy_dict, "m_t": numpy_dict, "v_t": numpy_dict},
)
