"""Bugs planted in what runs: ``run_audits`` must refuse each of them, at a claim of 8 as well.

Nothing of an audit is patched. Each bug is put where the run's own code would have it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fedlite.audit.attacks import run_audits
from fedlite.audit.audited import AuditedRun
from fedlite.base.errors import FedliteError
from fedlite.federation import client_app, release, training
from fedlite.federation.sums.plain import PlainSum
from fedlite.privacy import accounting, client_level, ledger, plan, randomness, steps
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.clipping import ClippedSum
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness, Randomness
from fedlite.privacy.sampling import PoissonSampler
from fedlite.report.audits import violations
from fedlite.report.progress import Progress
from tests.privacy.planted import ClipsWider, Plant, UnderstatesItsSensitivity, no_clipping
from tests.privacy.repeated import Repeated

SMALL = (
    "student=mlp",
    "student.kwargs.hidden=[16]",
    "audit.canaries=40",
    "audit.parts=[dirac]",
    "privacy.accountant=rdp",
    "privacy.sample_rate=0.5",
    "privacy.noise_multiplier=1.0",
    "privacy.epsilon=null",
)
AGGREGATE = (*SMALL, "privacy=aggregate", "federation.num_clients=8")
CLIENT = (*SMALL, "privacy=client", "federation.num_clients=10", "privacy.client.accountant=rdp")


def found(audited: AuditedRun) -> list[str]:
    """What an audit holds against a run: its violations, or the error that ended it."""
    try:
        return violations(run_audits(audited, Progress(enabled=False)))
    except FedliteError as error:
        return [str(error)]


# --- sampler --------------------------------------------------------------------------------------


def everybody_is_sampled(patch: pytest.MonkeyPatch) -> None:
    def batches(self: PoissonSampler) -> Iterator[list[int]]:
        for _ in range(self.steps):
            yield list(range(self.num_samples))

    patch.setattr(PoissonSampler, "__iter__", batches)


def batches_of_a_fixed_size(patch: pytest.MonkeyPatch) -> None:
    def batches(self: PoissonSampler) -> Iterator[list[int]]:
        size = round(self.num_samples * self.sample_rate)
        for _ in range(self.steps):
            yield self.randomness.uniform(self.num_samples).argsort()[:size].tolist()

    patch.setattr(PoissonSampler, "__iter__", batches)


def the_same_batch_in_every_round(patch: pytest.MonkeyPatch) -> None:
    def batches(self: PoissonSampler) -> Iterator[list[int]]:
        drawn = DeterministicRandomness(1).uniform(self.num_samples)
        for _ in range(self.steps):
            yield (drawn < self.sample_rate).nonzero().reshape(-1).tolist()

    patch.setattr(PoissonSampler, "__iter__", batches)


# --- clip and engine ------------------------------------------------------------------------------


def with_engine(engine: Any) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(training, "ENGINES", dict.fromkeys(ENGINES, engine))

    plant.__name__ = f"engine_{engine.__name__}"
    return plant


# --- noise ----------------------------------------------------------------------------------------


def with_noise_of(factor: float) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = steps.add_noise

        def add_noise(total: ClippedSum, multiplier: float, randomness: Randomness) -> Any:
            return original(total, factor * multiplier, randomness)

        patch.setattr(steps, "add_noise", add_noise)

    plant.__name__ = f"noise_times_{factor}"
    return plant


def one_seed_for_all_noise(patch: pytest.MonkeyPatch) -> None:
    original = steps.add_noise

    def add_noise(total: ClippedSum, multiplier: float, randomness: Randomness) -> Any:
        return original(total, multiplier, DeterministicRandomness(0))

    patch.setattr(steps, "add_noise", add_noise)


def arrays_of_one_dimension_without_noise(patch: pytest.MonkeyPatch) -> None:
    original = steps.add_noise

    def add_noise(total: ClippedSum, multiplier: float, randomness: Randomness) -> Any:
        noised = original(total, multiplier, randomness)
        pairs = zip(total.value, noised, strict=True)
        return tuple(value if value.dim() < 2 else one for value, one in pairs)

    patch.setattr(steps, "add_noise", add_noise)


def drawn_noise(draw: Callable[[Randomness, int], torch.Tensor]) -> Plant:
    """The noise of every array is of the right size, and drawn in another way."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        def add_noise(total: ClippedSum, multiplier: float, randomness: Randomness) -> Any:
            size = multiplier * total.sensitivity
            return tuple(
                value + size * draw(randomness, value.numel()).reshape(value.shape).to(value.dtype)
                for value in total.value
            )

        patch.setattr(steps, "add_noise", add_noise)

    plant.__name__ = draw.__name__
    return plant


def neighbours_share_their_noise(randomness: Randomness, count: int) -> torch.Tensor:
    return randomness.normal((count,))[torch.arange(count) // 2 * 2]


def uniform_noise(randomness: Randomness, count: int) -> torch.Tensor:
    return (randomness.uniform(count) - 0.5) * 12**0.5


# --- client ---------------------------------------------------------------------------------------


def changed_training(change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = client_app.train_client

        def train(student: nn.Module, part: Any, work: Any, plan: Any, randomness: Any) -> Any:
            given = {"work": work, "plan": plan, "randomness": randomness}
            change(given)
            return original(student, part, given["work"], given["plan"], given["randomness"])

        patch.setattr(client_app, "train_client", train)

    plant.__name__ = change.__name__
    return plant


def the_private_path_is_skipped(given: dict[str, Any]) -> None:
    given["plan"] = None


def two_steps_where_one_was_charged(given: dict[str, Any]) -> None:
    given["work"] = replace(given["work"], steps=2 * given["work"].steps)


def momentum_is_kept(patch: pytest.MonkeyPatch) -> None:
    """Between rounds, in the client's process, as an optimizer that lives on would."""
    original, kept = client_app.train_client, {}

    def train(student: nn.Module, part: Any, *rest: Any) -> Any:
        start = {name: value.clone() for name, value in student.state_dict().items()}
        state = original(student, part, *rest)
        speed = kept.setdefault(
            part.num_examples, {n: torch.zeros_like(v) for n, v in start.items()}
        )
        for name, value in state.items():
            speed[name] = 0.9 * speed[name] + value - start[name]
            state[name] = start[name] + speed[name]
        return state

    patch.setattr(client_app, "train_client", train)


# --- aggregation ----------------------------------------------------------------------------------


def weighted_sum(patch: pytest.MonkeyPatch) -> None:
    original = PlainSum.total

    def total(self: PlainSum, replies: Sequence[Any]) -> Any:
        return original(self, [*replies, replies[-1]])

    patch.setattr(PlainSum, "total", total)


def shares_of_noise_without_the_root(patch: pytest.MonkeyPatch) -> None:
    share = property(lambda plan: plan.noise_multiplier / plan.sharers)
    patch.setattr(PrivacyPlan, "client_noise_multiplier", share)


def changed_release(**changes: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change ``updates``, ``plan`` or ``average`` of a client-level release."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = release.release_average

        def average(updates: Any, like: Any, plan: Any, clip: float, randomness: Any) -> Any:
            updates = changes.get("updates", lambda same: same)(updates)
            plan = changes.get("plan", lambda same: same)(plan)
            found = original(updates, like, plan, clip, randomness)
            factor = changes.get("factor", lambda same: 1.0)(updates)
            return replace(found, average={n: factor * v for n, v in found.average.items()})

        patch.setattr(release, "release_average", average)

    plant.__name__ = f"release_{'_'.join(changes)}"
    return plant


def the_first_counts_twice(updates: Sequence[Any]) -> Sequence[Any]:
    return [*updates[:1], *updates]


def clients_without_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ClientPlan, "update_noise_multiplier", property(lambda plan: 0.0))


def clients_not_clipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_level, "clip_update", lambda update, clip: (update, 0.0))


def divided_by_who_came(updates: Sequence[Any]) -> float:
    return 10 / max(1, len(updates))


def weighted_clients(patch: pytest.MonkeyPatch) -> None:
    """Half of the clients count three times as much as the others, after the clip."""
    original = client_level.clip_update

    def clip(update: Any, norm: float) -> Any:
        cut, size = original(update, norm)
        where = int(torch.cat([value.flatten() for value in update.values()]).abs().argmax())
        return {name: value * (0.5 + where % 2) for name, value in cut.items()}, size

    patch.setattr(client_level, "clip_update", clip)


# --- accountant -----------------------------------------------------------------------------------


def a_quarter_of_epsilon(patch: pytest.MonkeyPatch) -> None:
    """After the plan was made: with the noise that a right accountant asked for."""
    for module in (accounting, plan, client_level, ledger):
        original = module.compute_epsilon
        patch.setattr(module, "compute_epsilon", lambda *a, _real=original: _real(*a) / 4)


def one_client_is_never_charged(patch: pytest.MonkeyPatch) -> None:
    original = ledger.Ledger.charge

    def charge(self: ledger.Ledger, *args: Any, **kwargs: Any) -> Any:
        spent = original(self, *args, **kwargs)
        return replace(spent, epsilon=0.0) if "0001" in self.data_set else spent

    patch.setattr(ledger.Ledger, "charge", charge)


# --- tests ----------------------------------------------------------------------------------------


def slow(bug: Plant) -> Any:
    """One of a kind that the quick suite has another of."""
    return pytest.param(bug, marks=pytest.mark.slow)


BUGS: list[Any] = [
    everybody_is_sampled,
    batches_of_a_fixed_size,
    slow(the_same_batch_in_every_round),
    slow(no_clipping),
    slow(with_engine(ClipsWider)),
    with_engine(UnderstatesItsSensitivity),
    slow(with_noise_of(0.0)),
    with_noise_of(0.9),
    one_seed_for_all_noise,
    slow(arrays_of_one_dimension_without_noise),
    slow(drawn_noise(neighbours_share_their_noise)),
    slow(drawn_noise(uniform_noise)),
    slow(one_client_is_never_charged),
    changed_training(the_private_path_is_skipped),
    slow(changed_training(two_steps_where_one_was_charged)),
    momentum_is_kept,
    a_quarter_of_epsilon,
]
AGGREGATE_BUGS: list[Any] = [
    weighted_sum,
    shares_of_noise_without_the_root,
    slow(with_noise_of(0.9)),
]
CLIENT_BUGS: list[Any] = [
    clients_without_noise,
    slow(clients_not_clipped),
    changed_release(factor=divided_by_who_came),
    slow(weighted_clients),
    changed_release(updates=the_first_counts_twice),
    slow(a_quarter_of_epsilon),
]


def name_of(bug: Plant) -> str:
    """Of a planted bug."""
    return bug.__name__


@pytest.mark.parametrize("bug", BUGS, ids=name_of)
def test_a_bug_in_what_a_client_runs_is_refused(
    bug: Plant, audited_run: Callable[..., AuditedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    audited = audited_run(*SMALL, rounds=4)
    bug(monkeypatch)
    assert found(audited)


@pytest.mark.parametrize("bug", AGGREGATE_BUGS, ids=name_of)
def test_a_bug_in_the_sum_of_a_cohort_is_refused(
    bug: Plant, audited_run: Callable[..., AuditedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    audited = audited_run(*AGGREGATE, rounds=4)
    bug(monkeypatch)
    assert found(audited)


@pytest.mark.parametrize("bug", CLIENT_BUGS, ids=name_of)
def test_a_bug_in_the_release_of_clients_is_refused(
    bug: Plant, audited_run: Callable[..., AuditedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    audited = audited_run(*CLIENT, rounds=4)
    bug(monkeypatch)
    assert found(audited)


@pytest.fixture
def a_cohort_that_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Draws as secret ones are made, with known keys: clients train in one step, and the verdict
    hangs on no secret. The clients of each such step."""
    monkeypatch.setattr(randomness, "SecureRandomness", Repeated)
    monkeypatch.setattr(Repeated, "made", 0)
    real, seen = client_app.train_cohort, []

    def train(student: nn.Module, parts: Sequence[Any], *rest: Any) -> Any:
        seen.append(len(parts))
        return real(student, parts, *rest)

    monkeypatch.setattr(client_app, "train_cohort", train)
    return seen


SECURE = (*SMALL, "privacy.randomness=secure")


@pytest.mark.parametrize("options", [SECURE, (*AGGREGATE, *SECURE[-1:])], ids=["local", "sum"])
def test_the_real_code_passes_in_a_cohort_s_step(
    options: tuple[str, ...],
    audited_run: Callable[..., AuditedRun],
    a_cohort_that_repeats_itself: list[int],
) -> None:
    assert found(audited_run(*options, rounds=4)) == []
    assert a_cohort_that_repeats_itself


@pytest.mark.parametrize(
    "bug",
    [
        everybody_is_sampled,
        with_noise_of(0.9),
        with_engine(UnderstatesItsSensitivity),
        one_seed_for_all_noise,
    ],
    ids=name_of,
)
def test_a_bug_in_a_cohort_s_step_is_refused(
    bug: Plant,
    audited_run: Callable[..., AuditedRun],
    a_cohort_that_repeats_itself: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audited = audited_run(*SECURE, rounds=4)
    bug(monkeypatch)
    assert found(audited)
    assert a_cohort_that_repeats_itself


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize("options", [SMALL, AGGREGATE, CLIENT], ids=["local", "sum", "clients"])
def test_the_real_code_passes(
    options: tuple[str, ...], audited_run: Callable[..., AuditedRun]
) -> None:
    audited = audited_run(*options, rounds=4)
    assert found(audited) == []
    assert {path.name for path in audited.directory.iterdir()} == {"audits.json", "pictures"}
