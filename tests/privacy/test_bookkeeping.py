"""Book-keeping makes what Opacus makes: on every student, every kind of layer, every batch."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation import training
from fedlite.models.build import FixedFrontEnd, build_model
from fedlite.privacy import layer_gradients
from fedlite.privacy.bookkeeping import BookKeeping
from fedlite.privacy.clipping import (
    Engine,
    ExampleLosses,
    GradientError,
    OpacusHooks,
    trained_parameters,
)
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.options import Gradients
from fedlite.runs.compose import compose_config
from tests.conftest import REPOSITORY, TINY
from tests.privacy import students
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld
from tests.tasks import shaped, texts

STUDENTS = sorted(path.stem for path in (REPOSITORY / "conf" / "student").glob("*.yaml"))
STUDENTS.remove("custom")
TEXTS = [name for name in STUDENTS if name.startswith("text_")]
STUDENTS = [name for name in STUDENTS if name not in TEXTS]
IMAGES = ("scattering",)  # students of images alone


def engine_sum(
    engine: Engine, model: nn.Module, losses: ExampleLosses, rows: Tensor, clip: float = 1.0
) -> tuple[Tensor, ...]:
    with engine(model, losses, clip) as made:
        return made.clipped_sum(rows).value


def distance(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> float:
    """Of two sums, in units of the second."""
    left, right = (torch.cat([value.double().flatten() for value in sums]) for sums in (one, other))
    return float((left - right).norm() / right.norm().clamp(min=1e-300))


# --- students that are shipped ----------------------------------------------------------------


def laid_out(inputs: Tensor, layout: str) -> Tensor:
    """The same inputs, lying otherwise in memory."""
    if layout == "strided":
        return torch.stack([inputs, -inputs], dim=-1)[..., 0]
    if layout == "channels_last":
        return inputs.movedim(1, -1).contiguous().movedim(-1, 1)
    return inputs


@settings(max_examples=25)
@given(
    name=st.sampled_from(STUDENTS),
    shape=st.sampled_from([(1, 8, 8), (3, 9, 12), (4, 20)]),
    size=st.sampled_from([0, 1, 3, 64, 300]),
    loss=st.sampled_from(["soft", "hard"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layout=st.sampled_from(["plain", "strided", "channels_last"]),
    clip=st.sampled_from([1e-3, 0.5, 1e3]),
    seed=st.integers(0, 1000),
)
def test_the_sums_of_every_student_are_those_of_opacus(
    name: str,
    shape: tuple[int, ...],
    size: int,
    loss: str,
    dtype: torch.dtype,
    layout: str,
    clip: float,
    seed: int,
) -> None:
    """Float64 tells a wrong formula from rounding; in float32 activations are smooth, since at a
    kink the rounding of a forward pass decides a gradient, for Opacus as well."""
    shape = (1, 8, 8) if name in IMAGES else shape
    options = [f"student={name}"]
    if dtype == torch.float32 and name not in IMAGES:
        options.append("student.kwargs.activation=tanh")
    task = shaped(shape, 10)
    student = build_model(compose_config([*TINY, *options]).student, task, seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    inputs = laid_out(torch.randn((size, *shape), generator=generator), layout).to(dtype)
    labels = torch.arange(size) % 10
    taught = Answers(torch.randn((size, 10), generator=generator).to(dtype))
    module: nn.Module = student
    if isinstance(student, FixedFrontEnd):
        module = student.head
        with torch.no_grad():
            inputs = student.features(inputs) if size else inputs
    losses = TaughtExamples(build_loss(DistillOptions(loss=loss)), inputs, labels, taught)
    rows = torch.randperm(size, generator=generator)
    expected = engine_sum(OpacusHooks, module.train(), losses, rows, clip)
    found = engine_sum(BookKeeping, module, losses, rows, clip)
    assert distance(found, expected) <= (1e-6 if dtype == torch.float32 else 1e-13)
    for one, parameter in zip(found, trained_parameters(module), strict=True):
        assert one.shape == parameter.shape
        assert one.dtype == parameter.dtype
        assert one.is_contiguous()
        assert not one.requires_grad


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("size", [0, 1, 70])
@pytest.mark.parametrize("name", TEXTS)
def test_the_sums_of_every_student_of_texts_are_those_of_opacus(
    name: str, size: int, frozen: bool
) -> None:
    task = texts()
    options = ("student.kwargs.activation=tanh", f"+student.kwargs.freeze_words={frozen}")
    config = compose_config([*TINY, f"student={name}", *options]).student
    student = build_model(config, task, seed=0).double()
    moved = [name for name, value in student.named_parameters() if value.requires_grad]
    assert ("words.table.weight" in moved) != frozen
    generator = torch.Generator().manual_seed(size)
    inputs = task.random(size, generator)
    taught = Answers(torch.randn((size, 3), generator=generator).double())
    losses = TaughtExamples(build_loss(DistillOptions()), inputs, torch.arange(size) % 3, taught)
    rows = torch.randperm(size, generator=generator)
    expected = engine_sum(OpacusHooks, student.train(), losses, rows)
    assert distance(engine_sum(BookKeeping, student, losses, rows), expected) <= 1e-6


# --- groups -----------------------------------------------------------------------------------

COUNTS = (0, 5, 1, 0, 12, 3)
OF_GROUPS = tuple(torch.split(torch.arange(sum(COUNTS)), COUNTS))


def taught(name: str, dtype: torch.dtype) -> tuple[nn.Module, ExampleLosses]:
    """What training moves of a smooth student, and its losses on as many examples as counted."""
    options = [f"student={name}"]
    options += [] if name in IMAGES else ["student.kwargs.activation=tanh"]
    task = shaped((1, 8, 8), 10)
    student = build_model(compose_config([*TINY, *options]).student, task, seed=0).to(dtype)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((sum(COUNTS), 1, 8, 8), generator=generator).to(dtype)
    answers = Answers(torch.randn((sum(COUNTS), 10), generator=generator).to(dtype))
    module: nn.Module = student
    if isinstance(student, FixedFrontEnd):
        module = student.head
        with torch.no_grad():
            inputs = student.features(inputs)
    labels = torch.arange(sum(COUNTS)) % 10
    return module.train(), TaughtExamples(build_loss(DistillOptions()), inputs, labels, answers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", STUDENTS)
def test_the_sums_of_groups_are_those_of_each_by_itself(name: str, dtype: torch.dtype) -> None:
    """Also where a physical part ends within a group."""
    module, losses = taught(name, dtype)
    expected = [engine_sum(OpacusHooks, module, losses, rows) for rows in OF_GROUPS]
    bound = 1e-6 if dtype == torch.float32 else 1e-12
    for size in (None, 7):
        with BookKeeping(module, losses, 1.0, size) as made:
            together = made.clipped_sums(torch.arange(sum(COUNTS)), COUNTS)
            alone = [made.clipped_sum(rows) for rows in OF_GROUPS]
        for one, single, other in zip(together, alone, expected, strict=True):
            assert one.sensitivity == single.sensitivity == 1.0
            assert distance(one.value, single.value) <= bound
            assert distance(one.value, other) <= bound


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("name", ["mlp", "cnn", "scattering"])
def test_what_is_not_finite_in_one_group_is_in_no_other(name: str, bad: float) -> None:
    module, losses = taught(name, torch.float32)
    assert isinstance(losses, TaughtExamples)
    rows = torch.arange(sum(COUNTS))
    with BookKeeping(module, losses, 1.0) as made:
        before = made.clipped_sums(rows, COUNTS)
    losses.inputs[OF_GROUPS[1][2]] = bad
    with BookKeeping(module, losses, 1.0) as made:
        after = made.clipped_sums(rows, COUNTS)
        alone = made.clipped_sum(OF_GROUPS[1])
    assert all(one.isfinite().all() for found in after for one in found.value)
    assert distance(after[1].value, alone.value) <= 1e-6
    for group in (0, 2, 3, 4, 5):
        assert distance(after[group].value, before[group].value) <= 1e-6


# --- kinds of layers --------------------------------------------------------------------------


class Behind(nn.Module):
    """A layer between fixed functions, with examples in dimension 0."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def losses_on(inputs: Tensor) -> ExampleLosses:
    """Losses whose gradients at a layer's output are all different."""

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        answers = model(inputs[rows]).flatten(1)
        slopes = torch.linspace(-2, 2, answers.shape[1], dtype=answers.dtype)
        return (answers * slopes).tanh().sum(dim=1) * (1 + rows)

    return losses


def one_after_another(
    model: nn.Module, losses: ExampleLosses, rows: Tensor, clip: float
) -> tuple[Tensor, ...]:
    """The clipped sum by autograd, example by example."""
    parameters = trained_parameters(model)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for row in rows:
        found = torch.autograd.grad(losses(model, row[None]).sum(), parameters)
        norm = torch.cat([one.flatten() for one in found]).norm()
        for sums, one in zip(total, found, strict=True):
            sums += one * (clip / (norm + 1e-6)).clamp(max=1)
    return tuple(total)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    one_dimension = draw(st.booleans())
    stride = draw(st.integers(1, 2))
    same = ["same"] if stride == 1 else []
    layer = (nn.Conv1d if one_dimension else nn.Conv2d)(
        inputs,
        outputs,
        draw(st.integers(1, 4)) if one_dimension else draw(st.sampled_from([1, (2, 3), 3])),
        stride=stride,
        dilation=draw(st.integers(1, 2)),
        padding=draw(st.sampled_from(["valid", *same, 0, 1, 2])),
        groups=groups,
        bias=draw(st.booleans()),
    )
    return layer, torch.randn(4, inputs, *([11] if one_dimension else [7, 9]))


@st.composite
def norms(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    places = draw(st.sampled_from([(), (5,), (4, 3)]))
    if draw(st.booleans()):
        return nn.GroupNorm(2, 6), torch.randn(4, 6, *places)
    shape = draw(st.sampled_from([(3,), (4, 3)]))
    layer = nn.LayerNorm(shape, bias=draw(st.booleans()))
    return layer, torch.randn(4, *places[:1], *shape)


@st.composite
def linears(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    layer = nn.Linear(5, draw(st.integers(1, 4)), bias=draw(st.booleans()))
    return layer, torch.randn(4, *draw(st.sampled_from([(), (3,), (2, 3)])), 5)


@st.composite
def tables(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    return nn.Embedding(5, 3), torch.randint(0, 5, (4, *draw(st.sampled_from([(), (6,), (2, 3)]))))


@settings(max_examples=150)
@given(
    case=st.one_of(convolutions(), norms(), linears(), tables()),
    last=st.booleans(),
    frozen=st.booleans(),
    clip=st.sampled_from([1e-2, 1.0, 1e3]),
)
def test_every_kind_of_layer_has_the_gradients_of_autograd(
    case: tuple[nn.Module, Tensor], last: bool, frozen: bool, clip: float
) -> None:
    layer, inputs = case
    torch.manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    if frozen and len(list(layer.parameters())) > 1:
        next(layer.parameters()).requires_grad_(requires_grad=False)
    if inputs.is_floating_point():
        # torch crashes on the weights of a group norm that is the first layer in channels_last
        last = last and not isinstance(layer, nn.GroupNorm)
        inputs = laid_out(inputs, "channels_last" if last else "plain").double()
    model, losses, rows = Behind(layer.double()), losses_on(inputs), torch.tensor([2, 0, 3])
    assert layer_gradients.rule_of(layer) is not None
    expected = one_after_another(model, losses, rows, clip)
    assert distance(engine_sum(BookKeeping, model, losses, rows, clip), expected) <= 1e-12


def students_losses(model: nn.Module, rows: Tensor) -> Tensor:
    inputs = torch.randn((9, *students.SHAPE), generator=torch.Generator().manual_seed(4))
    return nn.functional.cross_entropy(model(inputs[rows]), rows, reduction="none")


@pytest.mark.parametrize(
    "student",
    [
        students.Tied,
        students.TiedTranspose,
        students.CalledTwice,
        students.CheckpointedTwice,
        students.ExpandedPositions,
        students.InstanceNormed,
        students.PrivateAttention,
        students.FrozenFirst,
        students.OwnFunction,
        students.Embedded,
        # what Opacus alone can do
        students.PrivateGRU,
        students.PrivateLSTMBothWays,
        students.LSTMSequenceFirst,
        students.ParameterOfItsOwn,
        students.Positions,
        students.Transposed,
        students.WeightNormed,
    ],
)
def test_networks_of_ones_own_are_served(student: type[nn.Module]) -> None:
    """Layers called twice and weights shared among layers too, all of it or by Opacus."""
    model = student().double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)

    def losses(module: nn.Module, rows: Tensor) -> Tensor:
        inputs = torch.randn((9, *students.SHAPE), generator=torch.Generator().manual_seed(4))
        return nn.functional.cross_entropy(module(inputs[rows].double()), rows, reduction="none")

    rows = torch.tensor([3, 1, 4, 8])
    expected = one_after_another(model, losses, rows, 0.3)
    assert distance(engine_sum(BookKeeping, model, losses, rows, 0.3), expected) <= 1e-12
    assert engine_sum(BookKeeping, model, losses, rows[:0])[0].count_nonzero() == 0


# --- what is in no gradient -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 3e38, -1e25])
def test_gradients_that_are_not_finite_count_as_opacus_counts_them(bad: float) -> None:
    inputs = torch.randn((5, 1, 8, 8), generator=torch.Generator().manual_seed(3))
    inputs[2, 0, 1, 1] = bad
    model = build_model(compose_config([*TINY, "student=mlp"]).student, shaped((1, 8, 8), 10), 0)
    taught = Answers(torch.zeros(5, 10))
    losses = TaughtExamples(build_loss(DistillOptions()), inputs, torch.arange(5), taught)
    expected = engine_sum(OpacusHooks, model, losses, torch.arange(5))
    found = engine_sum(BookKeeping, model, losses, torch.arange(5))
    assert all(one.isfinite().all() for one in found)
    assert distance(found, expected) <= 1e-6


def check_tiny_slopes_on_large_inputs_are_cut() -> None:
    """A gradient of 1e-6 in each of 10,000 numbers, of factors whose squares single precision
    cannot hold together, is cut to 1e-6 as well."""
    layer = nn.Linear(100, 100, bias=False)
    inputs = torch.full((1, 100), 1e18)

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        return 1e-24 * model(inputs[rows]).sum(dim=1)

    (moved,) = engine_sum(BookKeeping, layer, losses, torch.tensor([0]), 1e-6)
    assert float(moved.norm()) <= 1e-6 * (1 + 1e-4), "moved by more than the clip norm"


def test_tiny_slopes_on_large_inputs_are_cut() -> None:
    check_tiny_slopes_on_large_inputs_are_cut()


def test_the_planted_bug_norms_in_single_precision_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = torch.linalg.vector_norm

    def norm(rows: Tensor, *options: object, dtype: object = None, **named: object) -> Tensor:
        return real(rows, *options, **named)

    monkeypatch.setattr(torch.linalg, "vector_norm", norm)
    with caught("moved by more than the clip norm"):
        check_tiny_slopes_on_large_inputs_are_cut()


def test_an_input_that_is_changed_afterwards_is_refused() -> None:
    class Overwrites(students.Student):
        def middle(self, x: Tensor) -> Tensor:
            flat = x.flatten(1).clone()
            hidden = self.first(flat)
            flat.mul_(2)
            return hidden.tanh()

    with pytest.raises(GradientError, match=r"'first.weight' is used on an input that is changed"):
        engine_sum(BookKeeping, Overwrites(), students_losses, torch.arange(3))


@pytest.mark.parametrize("student", [students.InPlace, students.InPlaceByFunction])
def test_an_output_that_is_changed_has_the_gradients_of_before(student: type[nn.Module]) -> None:
    model = student()
    expected = one_after_another(model, students_losses, torch.arange(3), 0.1)
    found = engine_sum(BookKeeping, model, students_losses, torch.arange(3), 0.1)
    assert distance(found, expected) <= 1e-6


# --- memory format ----------------------------------------------------------------------------


class Convolved(nn.Module):
    """Two convolutions and what comes between; ``seen`` are the memory formats of a later layer."""

    def __init__(self, between: nn.Module, flat: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.between = nn.Conv2d(1, 6, 3), between
        self.second, self.head = nn.Conv2d(6, 4, 3), nn.Linear(64, 10)
        self.flat = flat
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.second(self.between(self.first(x).tanh()))
        self.seen.append(hidden.is_contiguous())
        return self.head(self.flat(hidden))


IMAGES_OF_8 = torch.randn((6, 1, 8, 8), generator=torch.Generator().manual_seed(2))


def image_losses(model: nn.Module, rows: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(IMAGES_OF_8[rows]), rows, reduction="none")


def flattened(x: Tensor) -> Tensor:
    return x.flatten(1)


def viewed(x: Tensor) -> Tensor:
    return x.view(len(x), -1)


def checked_formats(between: nn.Module, flat: Callable[[Tensor], Tensor]) -> list[bool]:
    """Whether passes were made in the model's own format, in three sums that agree with Opacus."""
    model, rows = Convolved(between, flat), torch.arange(6)
    strides = [parameter.stride() for parameter in model.parameters()]
    found = []
    for engine in (OpacusHooks, BookKeeping, BookKeeping):
        torch.manual_seed(7)
        found.append(engine_sum(engine, model, image_losses, rows))
        drawn = torch.rand(1)
    torch.manual_seed(7)
    engine_sum(OpacusHooks, model, image_losses, rows)
    assert torch.equal(drawn, torch.rand(1)), "other draws than those of the model's own format"
    assert distance(found[1], found[0]) <= 1e-6
    assert distance(found[2], found[0]) <= 1e-6
    assert [parameter.stride() for parameter in model.parameters()] == strides
    return model.seen[1:-1]


@pytest.mark.parametrize("between", [nn.Identity(), nn.GroupNorm(2, 6), nn.Conv2d(6, 6, 1)])
def test_convolutions_run_in_channels_last(between: nn.Module) -> None:
    assert checked_formats(between, flattened) == [False, False]


def test_a_network_that_views_its_numbers_as_they_lie_runs_in_its_own_format() -> None:
    assert checked_formats(nn.Identity(), viewed) == [False, True, True]


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.Dropout2d(0.5)])
def test_dropout_draws_the_masks_of_the_model_s_own_format(dropout: nn.Module) -> None:
    assert checked_formats(dropout, flattened) == [False, True, True]


def test_depthwise_convolutions_run_in_their_own_format() -> None:
    assert checked_formats(nn.Conv2d(6, 6, 1, groups=6), flattened) == [True, True]


# --- the option -------------------------------------------------------------------------------


def test_every_engine_has_a_name() -> None:
    assert set(ENGINES) == set(get_args(Gradients))


@pytest.mark.parametrize("name", get_args(Gradients))
def test_clients_train_with_the_engine_that_the_run_names(
    name: str, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    class Noted:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *arguments: object) -> object:
            used.append(self.name)
            return ENGINES[self.name](*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "ENGINES", {key: Noted(key) for key in ENGINES})
    client_world(f"privacy.gradients={name}").train(1)
    assert used == [name]
