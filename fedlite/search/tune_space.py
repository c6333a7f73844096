"""What ``fedlite tune`` may choose: the options of a federation, as points of a space."""

import math
from collections.abc import Sequence

from fedlite.federation.options import FederationOptions
from fedlite.privacy.options import PrivacyOptions
from fedlite.search.harness import Space
from fedlite.search.options import TuneOptions
from fedlite.search.trials import Choice, Options

LEARNING_RATE, MOMENTUM = "federation.learning_rate", "federation.momentum"
ROUNDS, LOCAL_STEPS = "federation.rounds", "federation.local_steps"
SERVER_LEARNING_RATE = "federation.strategy.learning_rate"
SERVER_MOMENTUM, BETA_1 = "federation.strategy.momentum", "federation.strategy.beta_1"
SAMPLE_RATE, MAX_GRAD_NORM = "privacy.sample_rate", "privacy.max_grad_norm"
CLIENT_CLIP = "privacy.client.clip"


def tune_space(tune: TuneOptions, privacy: PrivacyOptions, federation: FederationOptions) -> Space:
    """The options that make a difference to this plan, each with its hand-set value among them.

    Clips are there for the units that clip, the server's momentum for strategies that have one.
    Rounds, local steps and sample rate are left alone where the noise multiplier is given: they
    would then change what the run spends. Local steps are left alone under aggregate trust, which
    is valid for one (rule 19).

    How far a step goes makes most of the difference under noise, and how far is right changes with
    the number of weights and of clients: each learning rate is tried alone before anything else is,
    and before them, at the client level, each clip of a client's update, in which the noise is
    measured.
    """
    strategy = federation.strategy
    choices: dict[str, Sequence[Choice]] = {
        LEARNING_RATE: _scaled(federation.learning_rate, tune.learning_rate_factors),
    }
    match strategy.name:
        case "fedavgm":
            choices[SERVER_MOMENTUM] = _listed(strategy.momentum, tune.momentums)
        case "fedadam":
            choices[SERVER_LEARNING_RATE] = _scaled(
                strategy.learning_rate, tune.learning_rate_factors
            )
            choices[BETA_1] = _listed(strategy.beta_1, tune.momentums)
    if privacy.example_level:
        choices[MAX_GRAD_NORM] = _scaled(privacy.max_grad_norm, tune.clip_factors)
    if privacy.client_level:
        assert privacy.client.clip is not None, "as the plan has it"
        choices[CLIENT_CLIP] = _scaled(privacy.client.clip, tune.clip_factors)
    example_noise_given = privacy.example_level and privacy.noise_multiplier is not None
    client_noise_given = privacy.client_level and privacy.client.noise_multiplier is not None
    if not example_noise_given:
        choices[SAMPLE_RATE] = _scaled(privacy.sample_rate, tune.sample_rate_factors, most=1.0)
    if not (example_noise_given or client_noise_given):
        rounds = {max(1, round(federation.rounds * factor)) for factor in tune.rounds_factors}
        choices[ROUNDS] = sorted(rounds | {federation.rounds})
    if privacy.trust == "local" and not example_noise_given:
        choices[LOCAL_STEPS] = sorted({*tune.local_steps, federation.local_steps})
        choices[MOMENTUM] = _listed(federation.momentum, tune.momentums)

    def simplify(genes: Options) -> Options:
        idle = {MOMENTUM} if genes.get(LOCAL_STEPS) == 1 else set()  # a buffer of one step
        return {name: value for name, value in genes.items() if name not in idle}

    first = _by_hand(privacy, federation, choices)
    return Space(
        choices,
        simplify,
        {"accuracy": "maximize"},
        first,
        then=[
            first | {name: value}
            for name in (CLIENT_CLIP, LEARNING_RATE)
            if name in choices
            for value in _nearest(float(first[name]), choices[name])
        ],
    )


def _by_hand(
    privacy: PrivacyOptions, federation: FederationOptions, choices: dict[str, Sequence[Choice]]
) -> Options:
    """The values of the options as they are set by hand."""
    values: dict[str, Choice] = {
        LEARNING_RATE: federation.learning_rate,
        MOMENTUM: federation.momentum,
        ROUNDS: federation.rounds,
        LOCAL_STEPS: federation.local_steps,
        SERVER_LEARNING_RATE: federation.strategy.learning_rate,
        SERVER_MOMENTUM: federation.strategy.momentum,
        BETA_1: federation.strategy.beta_1,
        SAMPLE_RATE: privacy.sample_rate,
        MAX_GRAD_NORM: privacy.max_grad_norm,
    }
    if privacy.client.clip is not None:
        values[CLIENT_CLIP] = privacy.client.clip
    return {name: values[name] for name in choices}


def _nearest(by_hand: float, choices: Sequence[Choice]) -> list[float]:
    """``choices``, those first that are the least factor away from the hand-set value."""

    def away(value: float) -> tuple[float, float]:
        return round(abs(math.log(value / by_hand)), 6), value

    return sorted(map(float, choices), key=away)


def _scaled(value: float, factors: Sequence[float], most: float | None = None) -> list[Choice]:
    """``value`` times each factor, to three digits, and ``value`` itself."""
    found = {float(f"{value * factor:.3g}") for factor in factors}
    return sorted({one if most is None else min(one, most) for one in found} | {value})


def _listed(value: float, values: Sequence[float]) -> list[Choice]:
    return sorted({*values, value})
