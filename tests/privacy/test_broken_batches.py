"""A client that raises in mid-batch leaves nothing to those that share its process.

And batches, and clients, without a single example are steps like all others.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedlite.data.types import ClientData
from fedlite.federation.messages import to_state
from fedlite.federation.transport.grid import FIRST_NODE_ID
from fedlite.privacy import bookkeeping, steps
from fedlite.privacy.clipping import Clipper, Engine, OpacusHooks, trained_layers
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.privacy.steps import train_steps
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, make_plan

INPUTS = torch.randn((8, 1, 8, 8), generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(8)
WITH_PLAN = make_plan(noise_multiplier=1.0, steps=3, sample_rate=0.5, expected_examples=8)


class Failure(Exception):
    """What a network raises."""


class Fuse(nn.Module):
    """Lets everything pass, until it is set: then the pass of that number raises."""

    left: ClassVar[dict[str, int]] = {"forward": 0, "backward": 0}

    @classmethod
    def burn(cls, where: str) -> None:
        if cls.left[where]:
            cls.left[where] -= 1
            if not cls.left[where]:
                raise Failure(where)

    def forward(self, x: Tensor) -> Tensor:
        self.burn("forward")
        return Burning.apply(x)


class Burning(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        Fuse.burn("backward")
        return gradient.clone()


class Fused(nn.Module):
    """Layers of several kinds before the fuse and after it, one of them called twice."""

    def __init__(self, input_shape: tuple[int, ...] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.scale = nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(256, 16), nn.Tanh())
        self.again = nn.Linear(16, 16)
        self.fuse = Fuse()
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.again(self.again(self.scale(self.first(x))))
        return self.head(self.fuse(hidden))


def model() -> nn.Module:
    torch.manual_seed(0)
    return Fused()


def losses(module: nn.Module, rows: Tensor) -> Tensor:
    return nn.functional.cross_entropy(module(INPUTS[rows]), LABELS[rows], reduction="none")


def train(
    module: nn.Module, plan: PrivacyPlan | None, engine: Engine, num_examples: int = 8
) -> int:
    return train_steps(
        module,
        losses,
        num_examples,
        steps=3,
        sample_rate=0.5,
        expected_batch_size=4.0,
        learning_rate=0.5,
        momentum=0.5,
        randomness=DeterministicRandomness(1),
        plan=plan,
        engine=engine,
    )


def traces(module: nn.Module) -> dict[str, Any]:
    """All that hangs on the layers and parameters of a model beside its values."""
    found: dict[str, Any] = {}
    for name, layer in module.named_modules():
        hooks = [key for key, value in vars(layer).items() if "hooks" in key and value]
        found[name] = (sorted(vars(layer)), hooks, layer.training)
    for name, parameter in module.named_parameters():
        found[f"{name} (parameter)"] = (sorted(vars(parameter)), parameter.grad is None)
    return found


def in_forward(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(Fuse.left, "forward", 2)


def in_backward(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(Fuse.left, "backward", 2)


def in_clipping(patch: pytest.MonkeyPatch) -> None:
    def clip(*arguments: object) -> None:
        raise Failure("clipping")

    patch.setattr(Clipper, "clip_and_accumulate", clip)
    patch.setattr(bookkeeping, "clip_factors", clip)


def in_noise(patch: pytest.MonkeyPatch) -> None:
    def add_noise(*arguments: object) -> None:
        raise Failure("noise")

    patch.setattr(steps, "add_noise", add_noise)


def check_a_failure_leaves_no_trace(
    fail: Plant, plan: PrivacyPlan | None, engine: Engine, *, evaluating: bool = False
) -> None:
    """After a failure the model is as it was but for its weights, and then trains to the same."""
    undisturbed, disturbed = model(), model()
    disturbed.train(not evaluating)
    start = {name: value.clone() for name, value in disturbed.state_dict().items()}
    before = traces(disturbed)
    with pytest.MonkeyPatch.context() as patch:
        fail(patch)
        with pytest.raises(Failure):
            train(disturbed, plan, engine)
    assert traces(disturbed) == before, "the failure left its traces"
    disturbed.load_state_dict(start)
    for one in (undisturbed, disturbed):
        assert train(one, plan, engine) == 3
    state = undisturbed.state_dict()
    for name, value in disturbed.state_dict().items():
        assert torch.equal(value, state[name]), "the next training is another"


every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@every_engine
@pytest.mark.parametrize("fail", [in_forward, in_backward, in_clipping, in_noise])
def test_a_failure_in_mid_batch_leaves_no_trace(fail: Plant, engine: Engine) -> None:
    check_a_failure_leaves_no_trace(fail, WITH_PLAN, engine)


@pytest.mark.parametrize("fail", [in_forward, in_backward])
def test_a_failure_without_privacy_leaves_no_trace(fail: Plant) -> None:
    check_a_failure_leaves_no_trace(fail, None, OpacusHooks, evaluating=True)


def fails(*arguments: object, **options: object) -> None:
    raise Failure("hook")


class Half(nn.Module):
    """Its first layer is hooked when the second raises."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bags = nn.Linear(3, 3), nn.EmbeddingBag(3, 3)


@every_engine
def test_a_start_that_fails_leaves_no_trace(engine: Engine) -> None:
    half = Half()
    before = traces(half)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.EmbeddingBag, "register_forward_hook", fails)
        with pytest.raises(Failure), engine(half, losses, 1.0):
            pass
    assert traces(half) == before
    with engine(half, losses, 1.0):
        pass


def only_whole_batches_are_cleaned_up(patch: pytest.MonkeyPatch) -> None:
    """As by Opacus, which knows of no forward without its backward."""
    real = OpacusHooks._clean

    def clean(self: OpacusHooks) -> None:
        layers = trained_layers(self._model).values()
        kept = {layer: vars(layer).get("activations") for layer in layers}
        real(self)
        for layer, activations in kept.items():
            if activations:
                layer.activations = activations

    patch.setattr(OpacusHooks, "_clean", clean)


def test_the_planted_bug_half_a_batch_that_stays_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    only_whole_batches_are_cleaned_up(monkeypatch)
    with caught("the failure left its traces"):
        check_a_failure_leaves_no_trace(in_forward, WITH_PLAN, OpacusHooks)


# --- through messages ---------------------------------------------------------------------------


FUSED = (
    "student=custom",
    f"student.module={__name__}.Fused",
    "privacy.randomness=deterministic",
)


def sent_by(world: ClientWorld, server_round: int, client_id: int) -> dict[str, Tensor]:
    reply = world.train(server_round, client_id)
    return to_state(reply.content.array_records["arrays"])


def check_other_clients_of_the_process(world: ClientWorld) -> None:
    """Client 0 raises in mid-batch; what client 1 sends after that is what it sent before."""
    undisturbed = sent_by(world, 1, client_id=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Fuse.left, "forward", 1)
        (broken,) = world.grid.send_and_receive([world.request(1, client_id=0)])
        assert Fuse.left["forward"] == 0, "the fuse did not burn"
    assert not (broken.has_content() and "arrays" in broken.content)
    world.grid.contexts[FIRST_NODE_ID + 1].state.clear()  # its stored reply
    after = sent_by(world, 1, client_id=1)
    for name, value in undisturbed.items():
        assert torch.equal(value, after[name]), "another reply after a failure"


def test_a_client_that_raises_disturbs_no_other_client(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_other_clients_of_the_process(client_world(*FUSED))


def test_the_planted_bug_a_poisoned_process_is_caught(
    client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world(*FUSED, "privacy.gradients=opacus")
    only_whole_batches_are_cleaned_up(monkeypatch)
    with pytest.raises(AssertionError) as raised:  # client 1 fails, in whatever words
        check_other_clients_of_the_process(world)
    assert "fuse" not in str(raised.value)


# --- batches and clients without examples --------------------------------------------------------


class Touchy(nn.Module):
    """Bears no empty batch."""

    def __init__(self, input_shape: tuple[int, ...] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) > 0, "an empty batch reached the model"
        return self.head(x.reshape(len(x), -1))


@every_engine
@pytest.mark.parametrize("num_examples", [0, 1])
def test_a_client_without_examples_takes_every_step(engine: Engine, num_examples: int) -> None:
    """Its noise is its update, as it nearly is that of a client with one example."""
    module = Touchy()
    before = module.head.weight.detach().clone()
    assert train(module, WITH_PLAN, engine, num_examples) == 3
    assert (module.head.weight != before).all()
    module = Touchy()
    before = module.head.weight.detach().clone()
    assert train(module, None, engine, num_examples=0) == 3
    assert torch.equal(module.head.weight, before)


@pytest.mark.parametrize("student", ["cnn", "scattering"])
def test_a_client_without_examples_has_a_part_to_train(
    student: str, client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world(f"student={student}")
    bench = world.client().workbench
    nobody = ClientData(99, torch.zeros((0, 1, 8, 8)), torch.zeros(0, dtype=torch.long))
    taught = bench.teacher_answers(nobody, world.teacher_sha256)
    assert taught.logits.shape == (0, 10)
    part = bench.trained_part(nobody, taught)
    assert part.num_examples == 0
    with ENGINES["opacus"](part.module, part.losses, 1.0) as gradients:
        total = gradients.clipped_sum(torch.arange(0))
    assert not any(value.any() for value in total.value)
