"""Rule 4: every planned step is taken and charged, empty Poisson batches included."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from fedlite.privacy import steps
from fedlite.privacy.clipping import ClippedSum, Engine
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.randomness import Randomness
from fedlite.privacy.sampling import PoissonSampler
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, batch, make_plan, update_of

STEPS = 40
OPTIONS = (f"federation.local_steps={STEPS}", "privacy.sample_rate=0.001")


def check_steps_taken_are_steps_charged(world: ClientWorld) -> None:
    """Nearly all batches are empty; each is an update by noise all the same."""
    assert world.client().workbench  # whose check of the student takes steps of its own
    updates: list[float] = []
    real = steps.Sgd.step

    def step(self: steps.Sgd, gradients: Sequence[Tensor | None]) -> None:
        updates.append(sum(float(g.abs().sum()) for g in gradients if g is not None))
        real(self, gradients)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.Sgd, "step", step)
        world.train(1)
    (entry,) = world.ledger().entries()
    assert entry.steps == STEPS, "not every planned step is charged"
    assert len(updates) == STEPS, "not every charged step is taken"
    assert min(updates) > 0, "an empty batch brought no noise"


@pytest.mark.usefixtures("every_engine")
def test_every_step_is_taken_and_charged_when_batches_are_mostly_empty(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_steps_taken_are_steps_charged(client_world(*OPTIONS))


# --- planted bugs ---------------------------------------------------------------------------


def skip_empty_batches(patch: pytest.MonkeyPatch) -> None:
    real = PoissonSampler.__iter__

    def nonempty(self: PoissonSampler) -> Iterator[list[int]]:
        return (rows for rows in real(self) if rows)

    patch.setattr(PoissonSampler, "__iter__", nonempty)


def no_noise_without_examples(patch: pytest.MonkeyPatch) -> None:
    real = steps.add_noise

    def add_noise(
        total: ClippedSum, noise_multiplier: float, randomness: Randomness
    ) -> tuple[Tensor, ...]:
        noised = real(total, noise_multiplier, randomness)
        pairs = zip(total.value, noised, strict=True)
        return tuple(with_noise if value.any() else value for value, with_noise in pairs)

    patch.setattr(steps, "add_noise", add_noise)


@pytest.mark.parametrize(
    ("plant", "because"),
    [
        (skip_empty_batches, "not every charged step is taken"),
        (no_noise_without_examples, "no noise"),
    ],
)
def test_planted_bugs_are_caught(
    plant: Plant,
    because: str,
    client_world: Callable[..., ClientWorld],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = client_world(*OPTIONS)
    assert world.client().workbench  # whose check of the student would notice, too
    plant(monkeypatch)
    with caught(because):
        check_steps_taken_are_steps_charged(world)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_an_empty_batch_moves_the_weights_by_its_noise(
    engine: Engine, client_world: Callable[..., ClientWorld]
) -> None:
    inputs, labels = batch((1, 8, 8), 3)
    plan = make_plan(
        noise_multiplier=2.0, sample_rate=1e-9, expected_examples=10**9, max_grad_norm=0.5
    )
    moved = update_of(client_world().student, inputs, labels, plan, engine=engine)
    assert torch.isfinite(moved).all()
    assert 0.95 < float(moved.std()) < 1.05  # noise multiplier x max grad norm = 1
