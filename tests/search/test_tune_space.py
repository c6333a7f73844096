"""What tuning may choose: the hand-set values among it, and nothing that makes no difference."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.federation.options import FederationOptions, StrategyOptions
from fedlite.privacy.options import ClientLevelOptions, PrivacyOptions
from fedlite.search.options import TuneOptions
from fedlite.search.tune_space import (
    BETA_1,
    CLIENT_CLIP,
    LEARNING_RATE,
    LOCAL_STEPS,
    MAX_GRAD_NORM,
    MOMENTUM,
    ROUNDS,
    SAMPLE_RATE,
    SERVER_LEARNING_RATE,
    SERVER_MOMENTUM,
    tune_space,
)

FACTORS = st.lists(st.floats(0.01, 100), min_size=1, max_size=4)
SPENDING = {SAMPLE_RATE, ROUNDS, LOCAL_STEPS}
CLIPPED = ClientLevelOptions(clip=1.0)  # as the plan of a run has it


@settings(max_examples=50)
@given(
    st.builds(
        TuneOptions,
        learning_rate_factors=FACTORS,
        clip_factors=FACTORS,
        sample_rate_factors=FACTORS,
        rounds_factors=FACTORS,
        momentums=st.lists(st.floats(0, 0.99), min_size=1, max_size=3),
    ),
    st.floats(1e-6, 1.0),
    st.integers(1, 500),
    st.sampled_from(["fedavg", "fedavgm", "fedadam", "fedprox", "mine.strategy"]),
    st.sampled_from(["example", "client", "both", "none"]),
)
def test_every_choice_is_allowed_and_the_hand_set_one_is_among_them(
    tune: TuneOptions, rate: float, rounds: int, strategy: str, unit: str
) -> None:
    privacy = PrivacyOptions(unit=unit, sample_rate=rate, client=CLIPPED)  # type: ignore[arg-type]
    federation = FederationOptions(rounds=rounds, strategy=StrategyOptions(name=strategy))
    space = tune_space(tune, privacy, federation)
    assert space.first is not None
    assert space.first.keys() == space.choices.keys()
    for name, values in space.choices.items():
        assert space.first[name] in values
        assert len(values) == len(set(values))
        assert all(value > 0 or "omentum" in name or "beta" in name for value in values)
    assert all(0 < value <= 1 for value in space.choices[SAMPLE_RATE])
    assert all(isinstance(value, int) for value in space.choices[ROUNDS])


@pytest.mark.parametrize(
    ("unit", "there"),
    [
        ("example", {MAX_GRAD_NORM}),
        ("client", {CLIENT_CLIP}),
        ("both", {MAX_GRAD_NORM, CLIENT_CLIP}),
        ("none", set()),
    ],
)
def test_the_clips_of_the_units_that_clip(unit: str, there: set[str]) -> None:
    privacy = PrivacyOptions(unit=unit, client=CLIPPED)  # type: ignore[arg-type]
    space = tune_space(TuneOptions(), privacy, FederationOptions())
    assert {MAX_GRAD_NORM, CLIENT_CLIP} & space.choices.keys() == there


@pytest.mark.parametrize(
    ("strategy", "there"),
    [
        ("fedavg", set()),
        ("fedprox", set()),
        ("fedavgm", {SERVER_MOMENTUM}),
        ("fedadam", {SERVER_LEARNING_RATE, BETA_1}),
    ],
)
def test_the_servers_options_are_those_of_its_strategy(strategy: str, there: set[str]) -> None:
    federation = FederationOptions(strategy=StrategyOptions(name=strategy))
    space = tune_space(TuneOptions(), PrivacyOptions(), federation)
    assert {SERVER_MOMENTUM, SERVER_LEARNING_RATE, BETA_1} & space.choices.keys() == there


def test_aggregate_trust_keeps_to_one_local_step() -> None:
    space = tune_space(TuneOptions(), PrivacyOptions(trust="aggregate"), FederationOptions())
    assert not {LOCAL_STEPS, MOMENTUM} & space.choices.keys()


@pytest.mark.parametrize(
    ("privacy", "left_alone"),
    [
        (PrivacyOptions(noise_multiplier=1.0), SPENDING),
        (PrivacyOptions(unit="both", noise_multiplier=1.0, client=CLIPPED), SPENDING),
        (
            PrivacyOptions(
                unit="client", client=dataclasses.replace(CLIPPED, noise_multiplier=1.0)
            ),
            {ROUNDS},
        ),
        (PrivacyOptions(unit="none", noise_multiplier=1.0), set()),
    ],
)
def test_where_the_noise_is_given_nothing_changes_what_is_spent(
    privacy: PrivacyOptions, left_alone: set[str]
) -> None:
    space = tune_space(TuneOptions(), privacy, FederationOptions())
    assert SPENDING - space.choices.keys() == left_alone


def test_points_that_differ_in_an_idle_momentum_are_one() -> None:
    space = tune_space(TuneOptions(), PrivacyOptions(), FederationOptions())
    first = space.first
    assert first is not None
    one = space.simplify({**first, LOCAL_STEPS: 1, MOMENTUM: 0.9})
    assert one == space.simplify({**first, LOCAL_STEPS: 1, MOMENTUM: 0.0})
    assert space.simplify({**first, LOCAL_STEPS: 2, MOMENTUM: 0.9})[MOMENTUM] == 0.9


def test_lists_of_one_leave_an_option_as_it_is() -> None:
    names = ("learning_rate", "clip", "sample_rate", "rounds")
    tune = dataclasses.replace(TuneOptions(), **{f"{name}_factors": [1.0] for name in names})
    space = tune_space(tune, PrivacyOptions(trust="aggregate"), FederationOptions())
    assert {name for name, values in space.choices.items() if len(values) > 1} == set()


def test_learning_rates_alone_are_tried_first_and_the_nearest_of_them_before_the_others() -> None:
    federation = FederationOptions(learning_rate=0.2)
    space = tune_space(TuneOptions(), PrivacyOptions(trust="aggregate"), federation)
    assert space.first is not None
    tried = [space.simplify({**space.first, **options}) for options in space.then]
    alone = [{**space.first, LEARNING_RATE: rate} for rate in (0.2, 0.1, 0.4, 0.05, 0.8, 0.02)]
    assert tried == [space.simplify(options) for options in alone]


def test_at_the_client_level_clips_alone_come_before_learning_rates() -> None:
    tune = TuneOptions(clip_factors=[0.1, 0.5], learning_rate_factors=[0.5])
    privacy = PrivacyOptions(unit="client", client=CLIPPED)
    space = tune_space(tune, privacy, FederationOptions(learning_rate=0.2))
    assert space.first is not None
    changed = [{k: v for k, v in one.items() if v != space.first[k]} for one in space.then]
    assert changed == [{}, {CLIENT_CLIP: 0.5}, {CLIENT_CLIP: 0.1}, {}, {LEARNING_RATE: 0.1}]
