"""Copies of an example under DP-SGD: the mean of their gradients is clipped once (rule 8)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.data.augment import Copies
from fedlite.data.options import AugmentOptions
from fedlite.distill.answers import Answers
from fedlite.distill.loss import JoinedExamples, TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation.messages import ARRAYS, to_state
from fedlite.models.build import build_model
from fedlite.privacy.clipping import ClippedSum, Engine, trained_parameters
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.privacy.steps import cohort_step
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.privacy.planted import PlantedEngine, caught
from tests.privacy.world import ClientWorld, batch, make_plan
from tests.tasks import shaped

AUGMENT = AugmentOptions(shift=2, flip=True, noise=0.3)
CLIP = 0.5
OPTIONS = ("dataset.augment.shift=1", "privacy.augmentations=3")

every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def student(name: str = "cnn") -> nn.Module:
    config = compose_config([*TINY, f"student={name}"]).student
    return build_model(config, shaped((1, 8, 8), 10), seed=0)


def examples(
    count: int, copies: int = 4, scale: float = 1.0, seed: int | None = 7
) -> TaughtExamples:
    """On copies of made-up images, of which the last is ``scale`` times as bright."""
    inputs, labels = batch((1, 8, 8), count)
    inputs[-1] *= scale
    taught = torch.randn((64, 10), generator=torch.Generator().manual_seed(5))[:count]
    seen = Copies(AUGMENT, copies, seed) if copies else None
    return TaughtExamples(build_loss(DistillOptions()), inputs, labels, Answers(taught), seen)


def naive_sum(model: nn.Module, losses: TaughtExamples, rows: Tensor) -> list[Tensor]:
    """By autograd: of each example the gradients of its copies, their mean, cut to the norm."""
    parameters = trained_parameters(model)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    assert losses.copies is not None
    for row in rows:
        one = row[None]
        gradients = []
        for seen in losses.copies.of(losses.inputs[one], one):
            plain = replace(losses[one], inputs=seen, copies=None)
            value = plain(model, torch.tensor([0])).sum()
            gradients.append(torch.autograd.grad(value, parameters))
        mean = [torch.stack(same).mean(dim=0) for same in zip(*gradients, strict=True)]
        norm = torch.cat([part.flatten() for part in mean]).norm()
        for summed, part in zip(total, mean, strict=True):
            summed += part * (CLIP / norm).clamp(max=1)
    return total


def distance(one: ClippedSum, other: ClippedSum) -> float:
    pairs = zip(one.value, other.value, strict=True)
    return float(torch.cat([(left - right).flatten() for left, right in pairs]).norm())


# --- the checks -----------------------------------------------------------------------------


def check_sensitivity(engine: Engine) -> None:
    """An example with all its copies moves the sum by at most the clip norm."""
    model, losses = student().train(), examples(9, scale=1000)
    rows = torch.arange(9)
    with engine(model, losses, CLIP) as made:
        sums = [made.clipped_sum(some) for some in (rows, rows[:-1])]
    moved = distance(*sums)
    assert sums[0].sensitivity == CLIP
    assert moved <= CLIP * (1 + 1e-4), f"one example moves the sum by {moved / CLIP:.3g} clip norms"


@every_engine
@pytest.mark.parametrize("name", ["cnn", "mlp", "mobilenet", "transformer"])
def test_the_sum_is_that_of_a_loop_over_examples_and_copies(name: str, engine: Engine) -> None:
    model, losses, rows = student(name).train(), examples(6), torch.tensor([4, 0, 3])
    with engine(model, losses, CLIP, 2) as made:
        found = made.clipped_sum(rows)
    for one, expected in zip(found.value, naive_sum(model, losses, rows), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-5)


@every_engine
def test_an_example_with_its_copies_moves_the_sum_by_at_most_the_clip_norm(engine: Engine) -> None:
    check_sensitivity(engine)


def test_a_cohort_s_sums_are_those_of_the_loop() -> None:
    """Sample rate 1, no noise: each client's step is the sum over its own examples."""
    model, parts = student().train(), [examples(3), examples(2)]
    joined = JoinedExamples(parts)
    whole = replace(
        parts[0],
        inputs=torch.cat([one.inputs for one in parts]),
        labels=torch.cat([one.labels for one in parts]),
        taught=Answers.joined([one.taught for one in parts]),
    )
    start = [parameter.detach().clone() for parameter in trained_parameters(model)]
    expected = [naive_sum(model, whole, rows) for rows in (torch.arange(3), torch.arange(3, 5))]
    with cohort_step(
        model,
        joined,
        [3, 2],
        sample_rate=1.0,
        expected_batch_size=1.0,
        learning_rate=1.0,
        randomness=[DeterministicRandomness(0), DeterministicRandomness(1)],
        plan=make_plan(max_grad_norm=CLIP),
    ) as move:
        for client, sums in enumerate(expected):
            move(client)
            for before, parameter, one in zip(start, trained_parameters(model), sums, strict=True):
                torch.testing.assert_close(before - parameter, one, rtol=1e-3, atol=1e-5)


def test_one_copy_that_changes_nothing_is_the_example_itself() -> None:
    model, rows = student().train(), torch.arange(5)
    plain, same = examples(5, copies=0), replace(examples(5), copies=Copies(AugmentOptions(), 1))
    torch.testing.assert_close(plain(model, rows), same(model, rows))


def test_every_step_draws_anew_and_moves_no_generator() -> None:
    model, rows, losses = student().train(), torch.arange(5), examples(5, seed=None)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(losses(model, rows))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


# --- a planted bug --------------------------------------------------------------------------


class ClipsEveryCopy(PlantedEngine):
    """Copies as examples of their own: each is cut by itself, and all are added up."""

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        losses = self.inner._example_losses
        assert isinstance(losses, TaughtExamples)
        assert losses.copies is not None
        total: list[Tensor] = []
        for seed in range(losses.copies.count):
            one = replace(losses, copies=replace(losses.copies, count=1, seed=seed))
            self.inner._example_losses = one
            value = self.inner.clipped_sum(rows).value
            total = [a + b for a, b in zip(total, value, strict=True)] if total else [*value]
        self.inner._example_losses = losses
        return ClippedSum(tuple(total), CLIP)


def test_the_planted_bug_of_copies_clipped_one_by_one_is_caught() -> None:
    with caught("one example moves the sum by [234]"):
        check_sensitivity(ClipsEveryCopy)


# --- through real messages ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "scattering"])
def test_a_client_trains_on_copies_by_the_plan_of_examples(
    name: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    shared = (f"student={name}", "privacy.randomness=deterministic")
    worlds = [
        ClientWorld(tiny_config(*shared, *options), tmp_path / str(len(options)))
        for options in ((), OPTIONS)
    ]
    plain, copied = (to_state(one.train(1).content.array_records[ARRAYS]) for one in worlds)
    assert worlds[0].plan == worlds[1].plan
    assert [one.ledger().entries()[0].steps for one in worlds] == [worlds[0].plan.steps] * 2
    assert list(plain) == list(copied)
    assert not all(torch.equal(plain[name], value) for name, value in copied.items())


def test_copies_are_refused_where_the_teacher_s_places_are_compared(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    world = ClientWorld(tiny_config("distill=hints", *OPTIONS), tmp_path)
    world.grid.send_and_receive([world.request(1)])
    assert "privacy.augmentations=3: distill.loss=hints compares" in world.grid.failure()
    assert world.ledger().entries() == []


def test_copies_that_change_nothing_are_refused() -> None:
    options = ["dataset=digits", "dataset.augment.shift=0", "dataset.augment.noise=0"]
    with pytest.raises(UsageError, match=r"^privacy.augmentations=4: dataset.augment changes noth"):
        compose_config([*options, "privacy.augmentations=4"])
