"""Example-level differential privacy on a client: read plan, accounting, ledger, dp_sgd in turn.

The modules are flat: none needs another to be understood, and :class:`PrivacyPlan` is the only
place that couples sampling, clipping, noise and accounting.
"""

from fedlite.privacy.accounting import calibrate_noise_multiplier, compute_epsilon
from fedlite.privacy.checks import check_private_model, check_row_separable_loss
from fedlite.privacy.dp_sgd import train_steps
from fedlite.privacy.ledger import Charge, Ledger, LedgerError
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations
from fedlite.privacy.randomness import (
    DeterministicRandomness,
    Randomness,
    SecureRandomness,
    derive_seed,
)

__all__ = [
    "Charge",
    "DeterministicRandomness",
    "Ledger",
    "LedgerError",
    "PrivacyPlan",
    "Randomness",
    "SecureRandomness",
    "calibrate_noise_multiplier",
    "check_private_model",
    "check_row_separable_loss",
    "compute_epsilon",
    "derive_max_participations",
    "derive_seed",
    "train_steps",
]
