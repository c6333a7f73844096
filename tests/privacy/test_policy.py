"""The device's own policy: the file, and which plans it refuses and why."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.policy import (
    LARGEST_GRAD_NORM,
    SMALLEST_GRAD_NORM,
    DataRules,
    Policy,
    load_policy,
    refusal,
)
from tests.conftest import REPOSITORY
from tests.privacy.world import make_plan

NAN, INF = math.nan, math.inf

POLICY = Policy(
    data_set="ward-7",
    max_epsilon=4.0,
    max_delta=1e-5,
    min_noise_multiplier=0.5,
    units=("example", "client"),
    trust=("local", "aggregate"),
    min_cohort=50,
    min_colluders=2,
)
LOCAL = make_plan(noise_multiplier=1.0, randomness="secure")
AGGREGATE = replace(LOCAL, trust="aggregate", min_cohort=50, colluders=2)

HOSTILE: list[tuple[PrivacyPlan, dict[str, object], str]] = [
    (LOCAL, {"epsilon": -1.0}, "epsilon"),
    (LOCAL, {"epsilon": NAN}, "epsilon"),
    (LOCAL, {"delta": 2e-5}, "delta"),
    (LOCAL, {"noise_multiplier": 0.49}, "noise multiplier"),
    (LOCAL, {"steps": 0}, "steps"),
    (LOCAL, {"steps": 1.5}, "steps"),
    (LOCAL, {"sample_rate": 0.0}, "sample rate"),
    (LOCAL, {"sample_rate": NAN}, "sample rate"),
    (LOCAL, {"noise_multiplier": NAN}, "noise multiplier"),
    (LOCAL, {"noise_multiplier": INF}, "noise multiplier"),
    (LOCAL, {"max_grad_norm": 1e-45}, "max grad norm"),
    (LOCAL, {"max_grad_norm": 1e38}, "max grad norm"),
    (LOCAL, {"expected_examples": NAN}, "expected examples"),
    (LOCAL, {"expected_examples": INF}, "expected examples"),
    (LOCAL, {"accountant": "gdp"}, "accountant"),
    (LOCAL, {"randomness": "deterministic"}, "randomness"),
    (AGGREGATE, {"min_cohort": 51}, "cohort"),
    (AGGREGATE, {"min_cohort": NAN}, "cohort"),
    (AGGREGATE, {"min_cohort": 10**9}, "cohort"),
    (AGGREGATE, {"colluders": 1}, "colluders"),
    (AGGREGATE, {"colluders": -100}, "colluders"),
    (AGGREGATE, {"colluders": NAN}, "colluders"),
]

Refusal = Callable[[Policy, PrivacyPlan | None, str], str]


def refuses_what_is_hostile(refuse: Refusal) -> None:
    """The check: every hostile plan is refused for its reason, and the honest ones are not."""
    for honest in (LOCAL, AGGREGATE, replace(LOCAL, epsilon=INF), replace(LOCAL, epsilon=100.0)):
        assert refuse(POLICY, honest, "example") == ""
    for plan, change, word in HOSTILE:
        reason = refuse(POLICY, replace(plan, **change), "example")  # type: ignore[arg-type]
        assert word in reason, f"{change} gave {reason!r}"
    assert "trust" in refuse(replace(POLICY, trust=("local",)), AGGREGATE, "example")
    assert "no plan" in refuse(POLICY, None, "example")
    assert "unit none" in refuse(POLICY, None, "none")
    assert "unit both" in refuse(POLICY, LOCAL, "both")
    assert "brings one" in refuse(POLICY, LOCAL, "client")
    assert refuse(POLICY, None, "client") == ""


def test_hostile_plans_are_refused_and_honest_ones_are_not() -> None:
    refuses_what_is_hostile(refusal)


# --- planted bugs: each of these the check above must see -----------------------------------


def follows_the_server(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Planted: no policy; a server's configuration decides."""
    return ""


def compares_the_other_way(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Planted: "refuse what is above the limit" lets NaN, which is above nothing, through."""
    if plan is not None and (math.isnan(plan.noise_multiplier) or math.isnan(plan.epsilon)):
        return ""
    return refusal(policy, plan, unit)


def believes_the_cohort(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Planted: the server's word on how many others add noise."""
    plan = replace(plan, min_cohort=policy.min_cohort or 2) if plan else None
    return refusal(policy, plan, unit)


def takes_any_clip_norm(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Planted: a clip norm so small that single precision rounds the noise to 0."""
    return refusal(policy, replace(plan, max_grad_norm=1.0) if plan else None, unit)


def forgets_the_unit(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Planted: a run that calls itself not private is trained without any noise."""
    return "" if unit == "none" else refusal(policy, plan, unit)


@pytest.mark.parametrize(
    "planted",
    [
        follows_the_server,
        compares_the_other_way,
        believes_the_cohort,
        takes_any_clip_norm,
        forgets_the_unit,
    ],
)
def test_the_check_sees_the_planted_bug(planted: Refusal) -> None:
    with pytest.raises(AssertionError):
        refuses_what_is_hostile(planted)


NUMBERS = [
    "epsilon", "delta", "noise_multiplier", "max_grad_norm", "expected_examples", "min_cohort",
    "colluders",
]  # fmt: skip
ANY_FLOAT = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, 1e-45, 1e-5, 0.5, 1.0, 50.0, INF]))


@settings(max_examples=300)
@given(
    numbers=st.fixed_dictionaries(dict.fromkeys(NUMBERS, ANY_FLOAT)),
    trust=st.sampled_from(["local", "aggregate"]),
)
def test_whatever_a_server_sends_is_refused_or_noised_enough(
    numbers: dict[str, float], trust: str
) -> None:
    try:
        plan = replace(LOCAL, trust=trust, **numbers)  # type: ignore[arg-type]
    except (UsageError, ValueError):
        return  # not a plan at all
    if refusal(POLICY, plan, "example"):
        return
    assert 0 < POLICY.budget(plan) <= 4.0
    assert plan.delta <= 1e-5
    assert SMALLEST_GRAD_NORM <= plan.max_grad_norm <= LARGEST_GRAD_NORM
    least = 0.5 if trust == "local" else 0.5 / math.sqrt(50 - 1 - 2)
    assert least <= plan.client_noise_multiplier < INF


# --- the file -------------------------------------------------------------------------------

DATA = """data_set: x
max_epsilon: 4
data:
  input_shape: [3]
  class_names: [a, b]
  mean: [0]
  std: [1, 1]
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_epsilon: 4", "data_set: missing"),
        ("data_set: x", "max_epsilon: missing"),
        ("data_set: x\nmax_epsilon: 4\nmax_epsillon: 9", "max_epsillon: no such key"),
        ("data_set: x\nmax_epsilon: 4\ndata: own.npz", "data: must be lines of"),
        (DATA.replace("std", "sd"), "data.sd: no such key"),
        (DATA.replace("std: [1, 1]", ""), "data.std: missing"),
        (DATA.replace("[3]", "[wide]"), "data.input_shape"),
        (DATA.replace("[3]", "[]"), "data.input_shape: [] must be"),
        (DATA.replace("[3]", "[3, 0]"), "data.input_shape: [3, 0] must be"),
        (DATA.replace("[a, b]", "[a]"), "data.class_names: must be two or more"),
        (DATA.replace("[a, b]", "[a, a]"), "data.class_names: must be two or more"),
        (DATA.replace("[1, 1]", "[1, 0]"), "data.std: must be"),
        (DATA.replace("[1, 1]", "[1, .nan, 1]"), "data.std: must be 1 or 3 finite"),
        (DATA.replace("[1, 1]", "[1, 0, 1]"), "data.std: must be above 0"),
        (DATA.replace("[1, 1]", "[1, 1, 1]") + "  scale: 0", "data.scale: 0 must be"),
        (DATA.replace("[1, 1]", "[1]") + "  inputs: []", "data.inputs: must name"),
        ("data_set: x\nmax_epsilon: lots", "max_epsilon: Value 'lots'"),
        ("data_set: x\nmax_epsilon: 0", "max_epsilon: 0 must be above 0"),
        ("data_set: x\nmax_epsilon: .inf", "max_epsilon: inf must be"),
        ("data_set: x\nmax_epsilon: .nan", "max_epsilon: nan must be"),
        ("data_set: x\nmax_epsilon: 4\nmax_delta: 1", "max_delta: 1 must be"),
        ("data_set: x\nmax_epsilon: 4\nmin_noise_multiplier: -1", "min_noise_multiplier: -1"),
        ("data_set: x\nmax_epsilon: 4\nunits: example", "units: "),
        ("data_set: x\nmax_epsilon: 4\nunits: [person]", "units: 'person' is not one of"),
        ("data_set: x\nmax_epsilon: 4\ntrust: [blind]", "trust: 'blind' is not one of"),
        ("data_set: x\nmax_epsilon: 4\nrandomness: seeded", "randomness: 'seeded'"),
        ("data_set: x\nmax_epsilon: 4\ntrust: [aggregate]", "min_cohort: missing"),
        ("data_set: x\nmax_epsilon: 4\nmin_cohort: 1", "min_cohort: 1 must be 2 or more"),
        ("data_set: x\nmax_epsilon: 4\nmin_cohort: 2.5", "min_cohort: Value '2.5'"),
        ("data_set: x\nmax_epsilon: 4\nmin_colluders: -1", "min_colluders: -1"),
        ("data_set: ../x\nmax_epsilon: 4", "data_set: '../x' must be"),
        ("data_set: ''\nmax_epsilon: 4", "data_set: '' must be"),
        ("data_set: [x]\nmax_epsilon: 4", "data_set: "),
        ("data_set: x\ndata_set: y", "is not YAML (.*duplicate key"),
        ("data_set: [", "is not YAML"),
        ("- data_set", "must be lines of"),
        ("", "data_set: missing"),
    ],
)
def test_a_broken_file_is_one_clear_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    pattern = words.replace("(", r"\(").replace("[", r"\[")
    with pytest.raises(UsageError, match=pattern) as caught:
        load_policy(path)
    message = str(caught.value)
    assert message.startswith(f"policy {path}: ")
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "raw.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not YAML"):
        load_policy(tmp_path / "raw.yaml")


def test_the_documented_example_is_a_policy(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "device-policy.md").read_text()
    (tmp_path / "policy.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy == Policy(
        data_set="ward-7-x-rays",
        max_epsilon=4.0,
        max_delta=1e-5,
        min_noise_multiplier=0.5,
        data=DataRules(
            input_shape=(1, 28, 28),
            class_names=("healthy", "pneumonia"),
            mean=(0.48,),
            std=(0.23,),
            scale=255.0,
            file="x-rays.npz",
        ),
    )


def test_two_lines_are_enough_and_what_is_left_out_is_the_careful_choice(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("data_set: x\nmax_epsilon: 3\n")
    policy = load_policy(tmp_path / "policy.yaml")
    assert (policy.units, policy.trust, policy.randomness) == (("example",), ("local",), "secure")
    assert policy.for_client(7).data_set == "x-client-0007"
