"""Public data as a world of simulated clients: what it holds, and the noise in it."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.splits import load_splits
from fedlite.data.types import ClientData, PublicData, TestData
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.privacy.options import AggregateTrustOptions, ClientLevelOptions, PrivacyOptions
from fedlite.search.options import TuneOptions
from fedlite.search.tune_world import (
    Clients,
    public_folds,
    simulated_clients,
    simulated_plan,
    write_fold,
)
from tests.tasks import shaped

Simulate = Callable[..., tuple[PrivacyOptions, FederationOptions]]


def public(count: int, first: int = 0) -> PublicData:
    """Every example is its own number, so that it can be recognised."""
    numbers = torch.arange(first, first + count)
    return PublicData(numbers[:, None].float(), numbers % 3)


def numbers(data: Any) -> set[int]:
    return set(data.inputs[:, 0].int().tolist())


# Divisions


@settings(max_examples=30)
@given(st.integers(6, 90), st.integers(1, 30), st.integers(1, 4), st.integers(0, 5))
def test_no_validation_example_is_judged_twice_or_trained_on(
    training: int, validation: int, more: int, seed: int
) -> None:
    folds = public_folds(public(training), public(validation, training), more, seed)
    assert len(folds) == more + 1
    judging = [numbers(fold.validation) for fold in folds]
    assert sum(map(len, judging)) == len(set.union(*judging))
    for fold in folds:
        assert not numbers(fold.training) & numbers(fold.validation)
        assert numbers(fold.training) | numbers(fold.validation) <= set(
            range(training + validation)
        )
        assert len(fold.training) + len(fold.validation) == training + validation
    assert all(len(one) >= 1 for one in judging)


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("other", [ClientData(0, torch.zeros(9, 1), torch.zeros(9)), TestData])
def test_only_public_data_is_divided(part: str, other: Any) -> None:
    if other is TestData:
        other = TestData(torch.zeros(9, 1), torch.zeros(9))
    data = {"training": public(9), "validation": public(9), part: other}
    with pytest.raises(TypeError, match="only PublicData"):
        public_folds(**data, more=1, seed=0)


@settings(max_examples=60)
@given(
    st.integers(2, 3000),
    st.integers(1, 600),
    st.floats(0.05, 0.95),
    st.one_of(st.none(), st.integers(2, 50)),
)
def test_as_many_clients_as_the_data_and_the_run_allow(
    training: int, real: int, fraction: float, most: int | None
) -> None:
    tune = TuneOptions(client_fraction=fraction, max_clients=most)
    try:
        found = simulated_clients(training, real, tune)
    except UsageError as error:
        needed = int(str(error).split("; ")[1].split()[0])
        assert needed > training, "what is asked for would not help"
        simulated_clients(needed + 1, real, tune)  # one more, for what rounding takes
        return
    assert min(real, 2) <= found.count <= min(real, most or real)
    assert found.examples >= 8
    assert found.count * found.examples <= fraction * training


def test_a_fold_is_read_back_as_public_clients_and_test_examples(tmp_path: Path) -> None:
    """By the same reader, split and partition that a run has."""
    task = dataclasses.replace(shaped((1,), num_classes=3), class_names=("a", "ä b", "c"))
    fold = public_folds(public(60), public(20, 60), 1, 0)[1]
    clients = Clients(4, 7)
    options = DatasetOptions("digits", "digits", holdout_size=5, evaluate_on="holdout")
    read = write_fold(fold, clients, task, options, tmp_path / "fold.npz")
    splits = load_splits(read, PartitionOptions("iid"), clients.count, 3)
    assert splits.task.class_names == task.class_names
    assert splits.client_sizes() == [7] * 4
    assert len(splits.test) == len(fold.validation)

    def found(inputs: torch.Tensor) -> list[int]:
        return splits.task.preprocessing.undo(inputs)[:, 0].round().int().tolist()

    held = [found(splits.client(client).inputs) for client in range(4)]
    rest = [found(splits.public.inputs), found(splits.public_validation.inputs)]
    everything = [number for part in held + rest for number in part]
    assert sorted(everything) == sorted(numbers(fold.training))
    assert set(found(splits.test.inputs)) == numbers(fold.validation)


# Noise


def relative_noise(
    privacy: PrivacyOptions, federation: FederationOptions, clients: Clients
) -> dict[str, float]:
    """Standard deviation of the noise on the average over an expected cohort, in units of the clip,
    from the plans that a run builds of its options: first principles, not the code under test."""
    plans = Plans.build(privacy, federation, [clients.examples] * clients.count)
    cohort = federation.fraction * clients.count
    found: dict[str, float] = {}
    if plans.example is not None:
        batch = privacy.sample_rate * clients.examples
        found["example"] = plans.example.client_noise_multiplier / (batch * math.sqrt(cohort))
    if plans.client is not None:
        found["client"] = plans.client.update_noise_multiplier / cohort
        found["bits"] = plans.client.bit_noise / cohort
    return found


def check_noise(simulate: Simulate) -> None:
    """The noise of a trial stands to the clipped average as in the run, for every kind of plan."""
    run = Clients(100, 580)
    given = PrivacyOptions(epsilon=None, noise_multiplier=1.3, accountant="rdp")
    client = ClientLevelOptions(epsilon=None, noise_multiplier=0.8, accountant="rdp")
    shared = AggregateTrustOptions(min_cohort=40, colluders=3)
    cases = [
        PrivacyOptions(accountant="rdp"),  # calibrated
        dataclasses.replace(given, sample_rate=0.01),
        dataclasses.replace(given, trust="aggregate"),
        dataclasses.replace(given, trust="aggregate", aggregate=shared),
        dataclasses.replace(given, unit="client", client=client),
        dataclasses.replace(given, unit="both", client=client),
        dataclasses.replace(
            given, unit="client", client=dataclasses.replace(client, adaptive_clip=True)
        ),
    ]
    worlds = [(1.0, Clients(10, 80)), (0.5, Clients(10, 80)), (1.0, run), (1.0, Clients(100, 8))]
    for privacy in cases:
        sampling = "bernoulli" if privacy.client_level else "fixed"
        for fraction, simulated in worlds:
            federation = FederationOptions(
                num_clients=100, fraction=fraction, rounds=5, sampling=sampling
            )
            plans = Plans.build(privacy, federation, [run.examples] * run.count)
            wanted = relative_noise(privacy, federation, run)
            made, of = simulate(privacy, federation, plans, run, simulated)
            assert of.num_clients == simulated.count
            found = relative_noise(made, of, simulated)
            assert found == pytest.approx(wanted), (privacy, simulated)


def test_noise_is_to_the_clip_as_in_the_run() -> None:
    check_noise(simulated_plan)


def as_calibrated(privacy: Any, federation: Any, *_: Any) -> Any:
    """The run's own options on fewer examples: the noise drowns everything."""
    return privacy, dataclasses.replace(federation, num_clients=_[-1].count)


def forgets(what: str) -> Simulate:
    """A wrong scale: as if clients held as much as in the run, or were as many."""

    def simulate(privacy: Any, federation: Any, plans: Any, real: Clients, fewer: Clients) -> Any:
        wrong = dataclasses.replace(fewer, **{what: getattr(real, what)})
        made, _ = simulated_plan(privacy, federation, plans, real, wrong)
        made = dataclasses.replace(made, expected_examples=fewer.examples)
        return made, dataclasses.replace(federation, num_clients=fewer.count)

    return simulate


@pytest.mark.parametrize(
    "planted", [as_calibrated, forgets("count"), forgets("examples")], ids=["none", "count", "size"]
)
def test_a_wrong_scale_of_the_noise_is_found(planted: Simulate) -> None:
    with pytest.raises(AssertionError):
        check_noise(planted)


@settings(max_examples=40)
@given(st.floats(0.001, 1.0), st.integers(1, 2000), st.integers(8, 500))
def test_the_batch_is_kept_as_far_as_there_are_examples(
    rate: float, size: int, simulated: int
) -> None:
    privacy = PrivacyOptions(unit="none", epsilon=None, sample_rate=rate)
    made, _ = simulated_plan(
        privacy, FederationOptions(), Plans(), Clients(20, size), Clients(10, simulated)
    )
    assert made.sample_rate * simulated == pytest.approx(min(rate * size, simulated))
    assert made.sample_rate <= 1


def test_a_trial_has_ledgers_and_rules_of_its_own() -> None:
    privacy = PrivacyOptions(ledger_dir="somewhere", policy="rules.yaml", accountant="rdp")
    real, federation = Clients(20, 50), FederationOptions(rounds=5)
    plans = Plans.build(privacy, federation, [50] * 20)
    made, _ = simulated_plan(privacy, federation, plans, real, Clients(10, 20))
    assert (made.ledger_dir, made.policy) == (None, None)
