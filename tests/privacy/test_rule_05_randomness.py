"""Rule 5: noise and sampling come from fresh secret randomness."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation import client_app
from fedlite.privacy.clipping import Engine
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import (
    NORMALS_AT_ONCE,
    DeterministicRandomness,
    Randomness,
    SecureRandomness,
    derive_seed,
    make_randomness,
)
from fedlite.privacy.steps import train_steps
from fedlite.report.privacy_statement import privacy_statement
from tests.privacy.planted import caught
from tests.privacy.repeated import Repeated
from tests.privacy.world import ClientWorld, batch, make_plan, update_of

Make = Callable[..., Randomness]

NO_ANSWERS = Answers(torch.zeros(5, 10))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """:class:`Repeated` begins with the same key wherever a test runs."""
    monkeypatch.setattr(Repeated, "made", 0)


class Given:
    """In the place of the cipher: its stream is these words of 64 bits."""

    def __init__(self, words: Sequence[int]) -> None:
        self._bytes = np.array(words, np.int64).tobytes()

    def update_into(self, zeros: bytes, stream: bytearray) -> int:
        assert len(zeros) == len(self._bytes), "another number of words"
        stream[: len(zeros)] = self._bytes
        return len(zeros)


def normals_of(randomness: SecureRandomness, words: Sequence[int]) -> list[float]:
    """What it makes of four words for each normal."""
    randomness._stream = Given(words)
    return randomness.normal((len(words) // 4,)).tolist()


# --- the checks -----------------------------------------------------------------------------


def seed_everything() -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  the global generator is what must not matter


def arrays_of(world: ClientWorld) -> list[bytes]:
    for context in world.grid.contexts.values():
        context.state.clear()
    return [array.data for array in world.train(1).content.array_records["arrays"].values()]


def check_a_round_cannot_be_repeated(world: ClientWorld) -> None:
    """The same round of the same client, with the same seeds wherever a seed can be set."""
    seed_everything()
    first = arrays_of(world)
    seed_everything()
    assert arrays_of(world) != first, "the noise repeats itself"


def check_draws_are_secret(make: Make) -> None:
    """Neither noise nor sampling follows the run's seed, a global seed or an earlier stream."""
    uniforms, normals = [], []
    for _ in range(2):
        seed_everything()
        randomness = make("secure", 0, "local-steps", 3, 1)
        uniforms += [randomness.uniform(4), randomness.uniform(4)]
        normals += [randomness.normal((4,)), randomness.normal((4,))]
    for draws, name in ((uniforms, "the sampling"), (normals, "the noise")):
        distinct = {tuple(draw.tolist()) for draw in draws}
        assert len(distinct) == len(draws), f"{name} repeats itself"


def check_normals_are_standard(randomness: Randomness) -> None:
    values = randomness.normal((1_000_000,)).double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-4, "not standard normal"
    for far in (2, 3, 4):
        expected = 2 * stats.norm.sf(far) * len(values)
        assert abs((abs(values) > far).sum() - expected) < 5 * math.sqrt(expected), "wrong tails"
    for one in (values, abs(values)):
        for apart in (1, 2, NORMALS_AT_ONCE // 2, NORMALS_AT_ONCE):
            assert abs(np.corrcoef(one[apart:], one[:-apart])[0, 1]) < 5e-3, "not independent"


def check_a_normal_has_four_words_of_its_own(randomness: SecureRandomness) -> None:
    """As many as four normals are made of, each of weight: so much an attack has to guess."""
    words = [(7 * word + 3) << 44 for word in range(12)]
    before, moved = normals_of(randomness, words), []
    for word in range(len(words)):
        after = normals_of(randomness, [one + ((i == word) << 40) for i, one in enumerate(words)])
        moved.append([i for i in range(3) if after[i] != before[i]])
    assert sorted(moved) == 4 * [[0]] + 4 * [[1]] + 4 * [[2]], "not four words of its own"


def check_tails_are_those_of_four_normals(randomness: SecureRandomness) -> None:
    """At the ends of the words' range normals are finite, and reach 12."""
    quarter, last = 1 << 50, (1 << 52) - 1
    ends = product(*3 * [(0, 1, last)], (0, quarter, 2 * quarter, 3 * quarter, last))
    normals = [normals_of(randomness, words)[0] for words in ends]
    assert all(map(math.isfinite, normals)), "not finite"
    assert max(normals) == -min(normals) == pytest.approx(math.sqrt(208 * math.log(2))), "tails end"


def check_no_normal_is_drawn_twice(randomness: Randomness) -> None:
    """Not within a pass over the cache, nor over two of them, nor for another tensor."""
    shapes = [(3, 5), (), (0, 4), (2 * NORMALS_AT_ONCE + 7,), (3, 5)]
    tensors = randomness.normals(shapes)
    assert [tuple(one.shape) for one in tensors] == shapes
    drawn = torch.cat([one.reshape(-1) for one in tensors])
    assert len(drawn.abs().unique()) == len(drawn), "the noise repeats itself"


def check_uniforms_are_uniform(randomness: Randomness) -> None:
    values = randomness.uniform(200_000).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-4, "not uniform"


def test_a_round_cannot_be_repeated(client_world: Callable[..., ClientWorld]) -> None:
    check_a_round_cannot_be_repeated(client_world())


def test_draws_are_secret() -> None:
    check_draws_are_secret(make_randomness)


def test_secure_draws_have_their_distributions(known: None) -> None:
    check_normals_are_standard(Repeated())
    check_a_normal_has_four_words_of_its_own(SecureRandomness())
    check_tails_are_those_of_four_normals(SecureRandomness())
    check_no_normal_is_drawn_twice(SecureRandomness())
    check_no_normal_is_drawn_twice(DeterministicRandomness(0))
    check_uniforms_are_uniform(Repeated())


# --- planted bugs ---------------------------------------------------------------------------


class GlobalNoise(SecureRandomness):
    """Noise from torch's global generator."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape)


class GlobalSampling(SecureRandomness):
    """Secure noise, but the sampler keeps the global generator: ``noise_generator`` of Opacus."""

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, dtype=torch.float64)


class SumOfFour(Repeated):
    """The sum of four normals, not halved."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return 2 * super().normal(shape)


class Doubled(Repeated):
    """Neighbours share their size."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        values = super().normal(shape)
        values[1::2] = values[::2].abs() * values[1::2].sign()
        return values


class Cut(Repeated):
    """Nothing beyond 4."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return super().normal(shape).clamp(-4, 4)


class SinglePrecision(SecureRandomness):
    """Uniform values of 24 bits."""

    def _values(self, zeros: bytes, stream: bytearray) -> Any:
        return np.floor(super()._values(zeros, stream) * 2**24) / 2**24


class OnePair(SecureRandomness):
    """Box and Muller's normals, of two words each."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        words = 2 * math.prod(shape)
        square, angle = self._values(bytes(8 * words), bytearray(8 * words + 15)).reshape(2, -1)
        return torch.from_numpy(np.sqrt(-2 * np.log(2 - square)) * np.sin(math.tau * angle))


class Pairs(SecureRandomness):
    """Two normals of the same four words."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        words = 4 * math.prod(shape)
        values = self._values(bytes(8 * words), bytearray(8 * words + 15)).reshape(4, -1)
        radius = np.sqrt(-2 * np.log((2 - values[0]) * (2 - values[1])) * (2 - values[2]))
        normals = radius * np.sin(math.tau * values[3])
        normals[1::2] = (radius * np.cos(math.tau * values[3]))[: len(normals) - 1 : 2]
        return torch.from_numpy(normals)


class SamePass(SecureRandomness):
    """Every pass over the cache begins with the same stream."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        first = super().normal((NORMALS_AT_ONCE,))
        count = math.prod(shape)
        return first.repeat(count // NORMALS_AT_ONCE + 1)[:count].reshape(shape)


class SameForEachTensor(SecureRandomness):
    """Every tensor of a sum is given the noise of the first."""

    def normals(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
        longest = super().normal((max(map(math.prod, shapes)),))
        return tuple(longest[: math.prod(shape)].reshape(shape) for shape in shapes)


def of_a_seed(mode: str, seed: int, purpose: str, *parts: int) -> Randomness:
    return DeterministicRandomness(derive_seed(seed, purpose, *parts))


@pytest.mark.parametrize(
    ("make", "because"),
    [
        (of_a_seed, "the sampling repeats itself"),
        (lambda *_: GlobalNoise(), "the noise repeats itself"),
        (lambda *_: GlobalSampling(), "the sampling repeats itself"),
    ],
    ids=["seeded", "global noise", "global sampling"],
)
def test_planted_generators_are_caught(make: Make, because: str) -> None:
    with caught(because):
        check_draws_are_secret(make)


@pytest.mark.parametrize("make", [of_a_seed, lambda *_: GlobalNoise()], ids=["seeded", "global"])
def test_planted_noise_is_caught_in_what_leaves_a_client(
    make: Make, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_app, "make_randomness", make)
    with caught("the noise repeats itself"):
        check_a_round_cannot_be_repeated(client_world("privacy.sample_rate=1"))


def test_planted_distributions_are_caught(known: None) -> None:
    with caught("not standard normal"):
        check_normals_are_standard(SumOfFour())
    with caught("not independent"):
        check_normals_are_standard(Doubled())
    with caught("wrong tails"):
        check_normals_are_standard(Cut())
    with caught("tails end"):
        check_tails_are_those_of_four_normals(SinglePrecision())
    with caught("another number of words"):
        check_a_normal_has_four_words_of_its_own(OnePair())
    with caught("not four words of its own"):
        check_a_normal_has_four_words_of_its_own(Pairs())


@pytest.mark.parametrize("randomness", [SamePass(), SameForEachTensor()])
def test_planted_repetitions_are_caught(randomness: Randomness) -> None:
    with caught("the noise repeats itself"):
        check_no_normal_is_drawn_twice(randomness)


# --- further promises -----------------------------------------------------------------------


def test_deterministic_mode_says_not_private(finished_report: dict[str, dict[str, Any]]) -> None:
    statement = privacy_statement({**finished_report["privacy"], "randomness": "deterministic"})
    assert statement.splitlines()[0].startswith("🛑 **NOT PRIVATE**")


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_the_noise_has_the_standard_deviation_of_the_plan(
    engine: Engine, client_world: Callable[..., ClientWorld]
) -> None:
    model = client_world().student
    inputs, labels = batch((1, 8, 8), 5)
    quiet = update_of(model, inputs, labels, make_plan(max_grad_norm=0.5), engine=engine)
    plan = make_plan(max_grad_norm=0.5, noise_multiplier=3.0)
    noise = (
        update_of(model, inputs, labels, plan, randomness=SecureRandomness(), engine=engine) - quiet
    )
    assert float(noise.std()) == pytest.approx(1.5, rel=0.05)


def test_seeds_are_derived_for_each_purpose_client_and_round() -> None:
    seeds = {
        derive_seed(seed, purpose, client, server_round)
        for seed in (0, 1)
        for purpose in ("local-steps", "cohort")
        for client in range(5)
        for server_round in range(5)
    }
    assert len(seeds) == 100
    again = [DeterministicRandomness(derive_seed(0, "cohort", 1, 2)).uniform(3) for _ in range(2)]
    assert torch.equal(again[0], again[1])


class Dropping(nn.Sequential):
    """A student that draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


@pytest.mark.parametrize("plan", [make_plan(), None], ids=["private", "not private"])
def test_dropout_is_as_secret_or_as_repeatable_as_the_noise(plan: PrivacyPlan | None) -> None:
    model, (inputs, labels) = Dropping(), batch((1, 8, 8), 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def moved(randomness: Randomness, global_seed: int) -> Tensor:
        torch.manual_seed(global_seed)  # as a student's own file may do
        model.load_state_dict(before)
        train_steps(
            model,
            TaughtExamples(build_loss(DistillOptions(alpha=0.0)), inputs, labels, NO_ANSWERS),
            len(labels),
            steps=2,
            sample_rate=1.0,
            expected_batch_size=1.0,
            learning_rate=1.0,
            momentum=0.0,
            randomness=randomness,
            plan=plan,
        )
        return model[2].weight.detach().clone()

    secret = [moved(SecureRandomness(), 7) for _ in range(2)]
    assert not torch.equal(*secret)
    repeated = [moved(DeterministicRandomness(3), seed) for seed in (7, 8)]
    assert torch.equal(*repeated)


@pytest.mark.parametrize("randomness", [SecureRandomness(), DeterministicRandomness(0)])
def test_noise_is_added_before_it_is_rounded(randomness: Randomness) -> None:
    """Noise of single precision lies on a grid, and what was added to it stands off that grid."""
    noise = randomness.normal((1000,))
    assert noise.dtype == torch.float64
    assert (noise.float().double() != noise).float().mean() > 0.99
