"""Differential privacy: of examples on a client (read plan, accounting, ledger, dp_sgd in turn), of
whole clients on the server (client_level).

The modules are flat: none needs another to be understood. :class:`PrivacyPlan` and, for whole
clients, :class:`ClientPlan` are the only places that couple sampling, clipping, noise, accounting.
"""

from fedlite.privacy.accounting import calibrate_noise_multiplier, compute_epsilon
from fedlite.privacy.checks import check_private_model, check_row_separable_loss
from fedlite.privacy.client_level import (
    ClientPlan,
    Release,
    clip_update,
    draw_cohort,
    release_average,
)
from fedlite.privacy.dp_sgd import train_steps
from fedlite.privacy.ledger import Charge, Ledger, LedgerError, Spending
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations
from fedlite.privacy.policy import Policy, load_policy, refusal
from fedlite.privacy.randomness import (
    DeterministicRandomness,
    Randomness,
    SecureRandomness,
    derive_seed,
    make_randomness,
)

__all__ = [
    "Charge",
    "ClientPlan",
    "DeterministicRandomness",
    "Ledger",
    "LedgerError",
    "Policy",
    "PrivacyPlan",
    "Randomness",
    "Release",
    "SecureRandomness",
    "Spending",
    "calibrate_noise_multiplier",
    "check_private_model",
    "check_row_separable_loss",
    "clip_update",
    "compute_epsilon",
    "derive_max_participations",
    "derive_seed",
    "draw_cohort",
    "load_policy",
    "make_randomness",
    "refusal",
    "release_average",
    "train_steps",
]
