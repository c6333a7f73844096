"""Clients of one process that train in one step: to each and of each it is as if it were alone.

The rules' own tests ask one client at a time; these ask several at once, in secure mode, where the
joint step is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from flwr.app import Message
from torch import Tensor

from fedlite.data.types import ClientData
from fedlite.federation import client_app, training
from fedlite.federation.messages import ARRAYS, METRICS, REPORT, TRAIN, State, to_state
from fedlite.federation.sealed import FAILED, answers
from fedlite.federation.sums.plain import PlainSum
from fedlite.federation.transport.grid import FIRST_NODE_ID
from fedlite.federation.workbench import Workbench
from fedlite.privacy import randomness, steps
from fedlite.privacy.bookkeeping import BookKeeping
from fedlite.privacy.clipping import ClippedSum
from fedlite.privacy.ledger import Ledger, Spending, affordable
from fedlite.privacy.randomness import DeterministicRandomness, Randomness
from fedlite.privacy.sampling import PoissonSampler
from tests.privacy.planted import Plant, caught, no_clipping
from tests.privacy.repeated import Repeated
from tests.privacy.world import ClientWorld

CLIENTS = 4
QUIET: dict[str, Any] = {"noise_multiplier": 1e-3, "epsilon": 1e12}  # that hides next to nothing
OPTIONS = (
    "student=mlp",
    "student.kwargs.hidden=[16]",
    "privacy.sample_rate=0.5",
    "privacy.noise_multiplier=4.0",
    "privacy.epsilon=null",
    "privacy.accountant=rdp",
    f"federation.num_clients={CLIENTS}",
)


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Known draws from here on, the same after each call."""

    def again() -> None:
        monkeypatch.setattr(Repeated, "made", 0)
        monkeypatch.setattr(randomness, "SecureRandomness", Repeated)

    again()
    return again


@pytest.fixture
def world(client_world: Callable[..., ClientWorld]) -> ClientWorld:
    return client_world(*OPTIONS)


def ask(
    world: ClientWorld, server_round: int = 1, mu: float = 0.0, **changes: Any
) -> list[Message]:
    """What all clients answer to one request, asked together."""
    content = world.request(server_round, **changes).content
    content.config_records["config"]["proximal-mu"] = mu
    nodes = world.grid.get_node_ids()
    return world.grid.send_and_receive([Message(content, node, TRAIN) for node in nodes])


def student(reply: Message) -> State:
    assert not reply.has_error(), reply.error.reason
    return to_state(reply.content.array_records[ARRAYS])


def moved(world: ClientWorld, reply: Message) -> Tensor:
    """The noised sum that a reply tells: minus the update, in units of one example's gradient."""
    assert world.plan is not None
    start = world.student.state_dict()
    change = torch.cat([(start[n] - v).flatten() for n, v in student(reply).items()]).double()
    return change * world.plan.expected_batch_size / world.config.federation.learning_rate


def exchange(world: ClientWorld, client_id: int, change: Callable[[Tensor], Tensor]) -> None:
    """Let a client hold other inputs; all clients forget their last replies."""
    data = world.simulation.client_data(client_id)
    inputs = change(data.inputs.clone())
    world.simulation._data[client_id] = ClientData(client_id, inputs, data.labels)
    for context in world.grid.contexts.values():
        for name in ("reply-arrays", "reply-report"):
            context.state.pop(name, None)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clients each pass over several clients' samples served."""
    seen: list[int] = []
    real = BookKeeping.clipped_sums

    def spy(self: BookKeeping, rows: Tensor, counts: Sequence[int]) -> Sequence[ClippedSum]:
        if len(counts) > 1:
            seen.append(len(counts))
        return real(self, rows, counts)

    monkeypatch.setattr(BookKeeping, "clipped_sums", spy)
    return seen


# --- the checks -----------------------------------------------------------------------------


def wild(inputs: Tensor) -> Tensor:
    """An explosion, and what is no number."""
    inputs[0::4] *= 1e30
    inputs[1::4] = float("nan")
    inputs[2::4, ..., 0] = float("inf")
    return inputs


def check_nobody_sees_another_s_examples(world: ClientWorld, again: Callable[[], None]) -> None:
    """Under known draws, one client's data changes its own reply alone, but for rounding."""
    before = [moved(world, reply) for reply in ask(world, **QUIET)]
    exchange(world, 1, wild)
    again()
    after = [moved(world, reply) for reply in ask(world, 2, **QUIET)]
    assert all(one.isfinite().all() for one in after), "an update is not finite"
    for client in (0, 2, 3):
        apart = float((before[client] - after[client]).norm() / before[client].norm())
        assert apart <= 1e-5, f"client {client} moves with the examples of client 1"
    assert not torch.allclose(before[1], after[1], atol=1e-2)


def check_one_example_moves_its_sum_by_the_clip(world: ClientWorld, again: Any) -> None:
    """Rule 8, with every example in the batch and next to no noise, which differs all the same."""
    everybody = {**QUIET, "sample_rate": 1.0}

    def sums(server_round: int) -> list[Tensor]:
        again()
        found = [moved(world, reply) for reply in ask(world, server_round, **everybody)]
        return [one / world.config.privacy.sample_rate for one in found]

    exchange(world, 2, lambda inputs: 1000 * inputs)
    whole = sums(1)
    data = world.simulation.client_data(2)
    fewer = ClientData(2, data.inputs[1:], data.labels[1:])
    world.simulation._data[2] = fewer
    apart = float((whole[2] - sums(2)[2]).norm())
    assert world.plan is not None
    assert apart <= world.plan.max_grad_norm * (1 + 5e-3), f"one example moves the sum by {apart:g}"


def check_noise_is_each_client_s_own(world: ClientWorld) -> None:
    """Clients of no examples answer with their noise alone: none is another's, none repeats."""
    assert world.plan is not None
    for client in range(CLIENTS):
        data = world.simulation.client_data(client)
        world.simulation._data[client] = ClientData(client, data.inputs[:0], data.labels[:0])
    noises = [moved(world, reply) for number in (1, 2) for reply in ask(world, number)]
    scale = world.plan.noise_multiplier * world.plan.max_grad_norm
    for place, noise in enumerate(noises):
        assert abs(float(noise.std()) / scale - 1) < 0.1, "noise of another size than the plan's"
        for other in noises[:place]:
            alike = float(torch.corrcoef(torch.stack([noise, other]))[0, 1])
            assert abs(alike) < 0.3, "two clients share their noise"


def check_all_are_charged_before_a_gradient_is_made(world: ClientWorld) -> None:
    ledgers = [world.ledger(client) for client in range(CLIENTS)]
    charged: list[list[int]] = []
    real = BookKeeping._sums_over

    def spy(self: BookKeeping, *args: Any) -> Any:
        charged.append([len(one.entries()) for one in ledgers])
        return real(self, *args)

    assert world.client().workbench  # whose check of the student makes gradients of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BookKeeping, "_sums_over", spy)
        assert not any(reply.has_error() for reply in ask(world))
    assert charged, "no step was taken together"
    assert all(one == [1] * CLIENTS for one in charged), "gradients are made before the charge"


# --- the real code --------------------------------------------------------------------------


def test_nobody_sees_another_s_examples(
    world: ClientWorld, repeated: Callable[[], None], passes: list[int]
) -> None:
    check_nobody_sees_another_s_examples(world, repeated)
    assert passes[0] == CLIENTS


def test_one_example_moves_its_sum_by_the_clip(
    world: ClientWorld, repeated: Callable[[], None], passes: list[int]
) -> None:
    check_one_example_moves_its_sum_by_the_clip(world, repeated)
    assert passes == [CLIENTS, CLIENTS]


def test_noise_is_each_client_s_own(world: ClientWorld, repeated: Callable[[], None]) -> None:
    check_noise_is_each_client_s_own(world)


def test_all_are_charged_before_a_gradient_is_made(world: ClientWorld) -> None:
    check_all_are_charged_before_a_gradient_is_made(world)


def test_every_reply_holds_what_it_may_and_every_ledger_the_plan(
    world: ClientWorld, passes: list[int]
) -> None:
    replies = ask(world)
    assert passes == [CLIENTS]
    for client, reply in enumerate(replies):
        assert reply.metadata.src_node_id == FIRST_NODE_ID + client
        assert set(reply.content) == {ARRAYS, METRICS, REPORT}
        assert dict(reply.content.metric_records[METRICS]) == {"num-examples": 1}
        assert list(student(reply)) == list(world.student.state_dict())
        (charge,) = world.ledger(client).entries()
        assert world.plan is not None
        assert charge.segment == world.plan.segment
        assert set(reply.content.config_records[REPORT]) == {"status", "epsilon"}
        assert reply.content.config_records[REPORT]["epsilon"] == world.plan.epsilon_after(1)


def test_a_request_that_comes_again_is_answered_as_before_and_is_free(world: ClientWorld) -> None:
    first, second = (ask(world) for _ in range(2))
    for client, (one, other) in enumerate(zip(first, second, strict=True)):
        assert all(torch.equal(student(other)[n], v) for n, v in student(one).items())
        assert len(world.ledger(client).entries()) == 1


def test_who_cannot_pay_refuses_and_the_others_train(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    real = Ledger.charge

    def charge(self: Ledger, *args: Any, **limits: Any) -> Spending:
        poor = self.data_set == world.ledger(1).data_set
        return real(self, *args, **{**limits, "budget": 0.0 if poor else limits["budget"]})

    monkeypatch.setattr(Ledger, "charge", charge)
    replies = ask(world)
    status = [reply.content.config_records[REPORT]["status"] for reply in replies]
    assert status == ["trained", "refused", "trained", "trained"]
    assert set(replies[1].content) == {REPORT}
    assert passes == [CLIENTS - 1]


@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_the_pull_of_fedprox_is_that_of_one_client(
    mu: float, world: ClientWorld, repeated: Callable[[], None]
) -> None:
    """Known draws: the pull multiplies each update by a constant."""
    plain = [moved(world, reply) for reply in ask(world)]
    repeated()
    pulled = [moved(world, reply) for reply in ask(world, 2, mu)]
    factor = 1 - world.config.federation.learning_rate * mu
    for one, other in zip(plain, pulled, strict=True):
        torch.testing.assert_close(other, factor * one, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ("privacy.randomness=deterministic",),
        ("federation.local_steps=2",),
        ("privacy.gradients=opacus",),
        ("privacy=none",),
    ],
    ids=lambda options: options[0],
)
def test_what_does_not_fit_is_trained_client_by_client(
    options: tuple[str, ...], client_world: Callable[..., ClientWorld], passes: list[int]
) -> None:
    world = client_world(*OPTIONS, *options)
    assert [student(reply).keys() for reply in ask(world)]
    assert passes == []


def test_deterministic_replies_do_not_hang_on_who_is_asked_together(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world(*OPTIONS, "privacy.randomness=deterministic")
    together = [student(reply) for reply in ask(world)]
    exchange(world, 0, lambda inputs: inputs)
    alone = [student(world.train(1, client)) for client in range(CLIENTS)]
    for one, other in zip(together, alone, strict=True):
        assert all(torch.equal(other[name], value) for name, value in one.items())


def test_several_messages_to_one_client_are_answered_one_after_the_other(
    world: ClientWorld, passes: list[int]
) -> None:
    content, context = world.request(1).content, world.grid.contexts[FIRST_NODE_ID]
    messages = [Message(content, FIRST_NODE_ID, TRAIN) for _ in range(2)]
    one, other = answers(client_app.app, [(message, context) for message in messages])
    assert all(torch.equal(student(other)[name], value) for name, value in student(one).items())
    assert len(world.ledger().entries()) == 1
    assert passes == []


# --- one that fails fails alone -------------------------------------------------------------


class Panic(BaseException):
    """As what no ``except Exception`` sees."""


def fails_for_client_1(owner: Any, name: str, is_client_1: Callable[..., bool]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)

        def broken(*args: Any, **options: Any) -> Any:
            if is_client_1(*args, **options):
                raise Panic("Zaphod-31337.5")
            return real(*args, **options)

        patch.setattr(owner, name, broken)

    plant.__name__ = name
    return plant


def of_client_1(*args: Any, **options: Any) -> bool:
    """Whether a call concerns the examples, ledger, message or draws of client 1."""
    for value in (*args, *options.values()):
        if getattr(value, "client_id", None) == 1:
            return True
        if isinstance(value, Message) and value.metadata.dst_node_id == FIRST_NODE_ID + 1:
            return True
        if isinstance(value, Ledger) and "0001" in value.data_set:
            return True
        draws = getattr(value, "randomness", value)
        if isinstance(draws, Repeated) and draws.number == 2:
            return True
    return False


@pytest.mark.parametrize(
    ("plant", "charges"),
    [
        (fails_for_client_1(Workbench, "teacher_answers", of_client_1), 0),
        (fails_for_client_1(Ledger, "charge", of_client_1), 0),
        (fails_for_client_1(PoissonSampler, "__iter__", of_client_1), 1),
        (fails_for_client_1(steps, "add_noise", of_client_1), 1),
        (fails_for_client_1(PlainSum, "seal", of_client_1), 1),
        (fails_for_client_1(client_app, "trained_reply", of_client_1), 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.usefixtures("repeated")
def test_a_client_that_fails_fails_alone(
    plant: Plant, charges: int, world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.client().workbench
    plant(monkeypatch)
    replies = ask(world)
    assert [reply.has_error() for reply in replies] == [False, True, False, False]
    assert replies[1].error.reason == FAILED
    spent = [len(world.ledger(client).entries()) for client in range(CLIENTS)]
    assert spent == [1, charges, 1, 1]
    assert world.grid.failure() == "Panic"


def test_where_the_joint_step_fails_each_client_has_its_own_of_the_same_sample(
    world: ClientWorld, repeated: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [moved(world, reply) for reply in ask(world, **QUIET)]
    exchange(world, 0, lambda inputs: inputs)
    repeated()

    def broken(self: BookKeeping, rows: Tensor, counts: Sequence[int]) -> Any:
        if len(counts) > 1:
            raise Panic
        return real(self, rows, counts)

    real = BookKeeping.clipped_sums
    monkeypatch.setattr(BookKeeping, "clipped_sums", broken)
    found = [moved(world, reply) for reply in ask(world, 2, **QUIET)]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=0.02)  # the noise is another
    assert [len(world.ledger(client).entries()) for client in range(CLIENTS)] == [2] * CLIENTS


def test_what_cannot_begin_fails_for_everybody(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.client().workbench

    def broken(*args: object) -> Any:
        raise Panic

    monkeypatch.setattr(training, "ENGINES", {"bookkeeping": broken})
    assert [reply.error.reason for reply in ask(world)] == [FAILED] * CLIENTS


# --- planted bugs ---------------------------------------------------------------------------


def with_sums(change: Callable[[list[tuple[Tensor, ...]]], list[tuple[Tensor, ...]]]) -> Plant:
    """Of several clients, in one pass."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = BookKeeping.clipped_sums

        def changed(self: BookKeeping, rows: Tensor, counts: Sequence[int]) -> list[ClippedSum]:
            sums = list(real(self, rows, counts))
            if len(sums) == 1:
                return sums
            values = change([one.value for one in sums])
            return [replace(one, value=value) for one, value in zip(sums, values, strict=True)]

        patch.setattr(BookKeeping, "clipped_sums", changed)

    plant.__name__ = change.__name__
    return plant


def a_little_of_everybody(sums: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    means = [torch.stack(ones).mean(dim=0) for ones in zip(*sums, strict=True)]
    return [tuple(own + 1e-2 * mean for own, mean in zip(one, means, strict=True)) for one in sums]


def the_next_client_s(sums: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    return [*sums[1:], sums[0]]


def one_noise_for_all(patch: pytest.MonkeyPatch) -> None:
    real = steps.add_noise

    def add_noise(total: ClippedSum, multiplier: float, draws: Randomness) -> Any:
        return real(total, multiplier, DeterministicRandomness(0))

    patch.setattr(steps, "add_noise", add_noise)


def charged_with_the_reply(patch: pytest.MonkeyPatch) -> None:
    postponed: list[Callable[[], Spending]] = []
    real_charge, real_reply = Ledger.charge, client_app.trained_reply

    def later(self: Ledger, charge: Any, *, replay: bool, **limits: Any) -> Spending:
        postponed.append(lambda: real_charge(self, charge, replay=replay, **limits))
        return affordable(self.entries(), charge, **limits)

    def charge_and_reply(*args: Any) -> Any:
        postponed.pop(0)()
        return real_reply(*args)

    patch.setattr(Ledger, "charge", later)
    patch.setattr(client_app, "trained_reply", charge_and_reply)


@pytest.mark.parametrize("change", [a_little_of_everybody, the_next_client_s])
def test_planted_sums_of_others_are_caught(
    change: Callable[..., Any],
    world: ClientWorld,
    repeated: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_sums(change)(monkeypatch)
    with caught("moves with the examples of client 1"):
        check_nobody_sees_another_s_examples(world, repeated)


def test_planted_sums_that_are_not_clipped_are_caught(
    world: ClientWorld, repeated: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.client().workbench
    no_clipping(monkeypatch)
    with caught("one example moves the sum"):
        check_one_example_moves_its_sum_by_the_clip(world, repeated)


@pytest.mark.usefixtures("repeated")
def test_the_planted_bug_one_noise_for_all_is_caught(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_noise_for_all(monkeypatch)
    with caught("share their noise"):
        check_noise_is_each_client_s_own(world)


def test_the_planted_bug_charged_with_the_reply_is_caught(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_with_the_reply(monkeypatch)
    with caught("before the charge"):
        check_all_are_charged_before_a_gradient_is_made(world)
