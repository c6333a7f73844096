"""Flower's strategies by name, each against its paper's formula in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from flwr.serverapp.strategy import FedAvgM
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.federation.messages import CONFIG, State, TrainRequest, to_arrays, trained_reply
from fedlite.federation.options import STRATEGIES, StrategyOptions
from fedlite.federation.strategy import Strategy, StrategyKind, numpy_list

NODES = [5, 3, 8]
ROUNDS = 5
START: State = {"weight": torch.tensor([[0.5, -1.0], [2.0, 0.0]]), "bias": torch.tensor(0.1)}

FEDAVG = StrategyOptions(name="fedavg")
FEDPROX = StrategyOptions(name="fedprox", proximal_mu=0.3)
FEDAVGM = StrategyOptions(name="fedavgm", learning_rate=0.7, momentum=0.9)
FEDADAM = StrategyOptions(name="fedadam", learning_rate=0.05, beta_1=0.8, beta_2=0.95, tau=0.01)
ALL = [FEDAVG, FEDPROX, FEDAVGM, FEDADAM]

Flat = NDArray[np.float64]


def updates(server_round: int) -> list[Flat]:
    """What each client adds to the model in a round, flattened."""
    rng = np.random.default_rng(server_round)
    return [rng.normal(size=5) for _ in NODES]


def flat(state: State) -> Flat:
    return np.concatenate([value.numpy().astype(np.float64).ravel() for value in state.values()])


def unflat(vector: Flat) -> State:
    values = torch.from_numpy(vector.astype(np.float32))
    return {"weight": values[:4].reshape(2, 2), "bias": values[4]}


def mean_update(server_round: int) -> Flat:
    return np.mean(updates(server_round), axis=0)


def average(_: StrategyOptions) -> list[Flat]:
    """McMahan et al. 2017, algorithm 1, with equal weights: the mean of the clients' models."""
    x = [flat(START)]
    for t in range(1, ROUNDS + 1):
        x.append(x[-1] + mean_update(t))
    return x[1:]


def with_momentum(config: StrategyOptions) -> list[Flat]:
    """Hsu, Qi, Brown 2019: v = beta v + dw; w = w - lr v, where dw is minus the mean update."""
    w, v, found = flat(START), np.zeros(5), []
    for t in range(1, ROUNDS + 1):
        v = config.momentum * v - mean_update(t)
        w = w - config.learning_rate * v
        found.append(w)
    return found


def with_adam(config: StrategyOptions) -> list[Flat]:
    """Reddi et al. 2021, algorithm 2, with the bias correction of Kingma and Ba 2015 (whose step
    number Flower counts from 2)."""
    x, m, v, found = flat(START), np.zeros(5), np.zeros(5), []
    for t in range(1, ROUNDS + 1):
        delta = mean_update(t)
        m = config.beta_1 * m + (1 - config.beta_1) * delta
        v = config.beta_2 * v + (1 - config.beta_2) * delta**2
        correction = np.sqrt(1 - config.beta_2 ** (t + 1)) / (1 - config.beta_1 ** (t + 1))
        x = x + config.learning_rate * correction * m / (np.sqrt(v) + config.tau)
        found.append(x)
    return found


class Server:
    """A strategy and its model, round by round."""

    def __init__(self, config: StrategyOptions, state: State = START) -> None:
        self.strategy, self.state = Strategy(config), state

    def messages(self, server_round: int) -> list[Message]:
        request = TrainRequest.config("run", "sha", None)
        return self.strategy.configure(server_round, self.state, request, NODES)

    def play(self, server_round: int) -> State:
        replies = []
        for message, update in zip(self.messages(server_round), updates(server_round), strict=True):
            message.metadata.__dict__["_message_id"] = f"m{message.metadata.dst_node_id}"
            sent = TrainRequest.parse(message.content).state
            replies.append(trained_reply(message, to_arrays(unflat(flat(sent) + update)), 0.0))
        self.state = self.strategy.aggregate(server_round, self.state, replies)
        return self.state


@pytest.mark.parametrize(
    ("config", "reference"),
    [(FEDAVG, average), (FEDPROX, average), (FEDAVGM, with_momentum), (FEDADAM, with_adam)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_strategy_computes_its_paper_s_formula(
    config: StrategyOptions, reference: Callable[[StrategyOptions], list[Flat]]
) -> None:
    server = Server(config)
    for server_round, expected in enumerate(reference(config), 1):
        state = server.play(server_round)
        np.testing.assert_allclose(flat(state), expected, rtol=2e-5, atol=2e-5)
        assert list(state) == list(START)
        for name, value in state.items():
            assert value.dtype == torch.float32
            assert value.shape == START[name].shape


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.name)
def test_a_restored_strategy_goes_on_with_the_same_bits(config: StrategyOptions) -> None:
    unbroken, broken = Server(config), Server(config)
    for server_round in (1, 2, 3):
        unbroken.play(server_round)
        broken.play(server_round)
    resumed = Server(config, broken.state)
    resumed.strategy.restore(broken.strategy.state())
    for server_round in (4, 5):
        expected, found = unbroken.play(server_round), resumed.play(server_round)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("config", [FEDAVGM, FEDADAM], ids=lambda config: config.name)
def test_what_a_strategy_keeps_matters(config: StrategyOptions) -> None:
    """A strategy that is not restored goes elsewhere: the test above cannot pass by accident."""
    server = Server(config)
    for server_round in (1, 2, 3):
        server.play(server_round)
    forgetful = Server(config, server.state)
    assert not torch.equal(server.play(4)["weight"], forgetful.play(4)["weight"])


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.name)
def test_no_replies_leave_the_model_as_it_is(config: StrategyOptions) -> None:
    server = Server(config)
    server.play(1)
    before = server.state
    server.messages(2)
    assert server.strategy.aggregate(2, before, []) is before
    assert server.strategy.configure(3, before, TrainRequest.config("r", "s", None), []) == []


def test_messages_go_to_the_cohort_in_its_order_and_carry_the_proximal_term() -> None:
    for config, mu in ((FEDAVG, 0.0), (FEDPROX, 0.3)):
        messages = Server(config).messages(4)
        assert [message.metadata.dst_node_id for message in messages] == NODES
        for message in messages:
            request = TrainRequest.parse(message.content)
            assert (request.round, request.proximal_mu) == (4, pytest.approx(mu))


def test_every_strategy_that_is_offered_is_held_to_its_formula() -> None:
    assert {config.name for config in ALL} == set(STRATEGIES.names())


OWN = StrategyKind(
    lambda options, shared: FedAvgM(**shared, server_learning_rate=0.5, server_momentum=0.9),
    kept={"current_arrays": to_arrays, "momentum_vector": numpy_list},
)


def test_a_strategy_of_one_s_own_is_named_by_its_path_and_goes_on_from_a_checkpoint() -> None:
    config = StrategyOptions(name=f"{__name__}.OWN")
    alike = StrategyOptions(name="fedavgm", learning_rate=0.5, momentum=0.9)
    broken = Server(config)
    broken.play(1)
    resumed = Server(config, broken.state)
    resumed.strategy.restore(broken.strategy.state())
    expected = with_momentum(alike)[1]
    np.testing.assert_allclose(flat(resumed.play(2)), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["krum", "no.such.STRATEGY"])
def test_a_strategy_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^federation\.strategy\.name={name}: ") as refusal:
        Strategy(StrategyOptions(name=name))
    assert "\n" not in str(refusal.value)


def test_every_client_weighs_the_same() -> None:
    """Rule 3: the weight that Flower asks for is the constant 1, whoever replies."""
    server = Server(FEDAVG)
    (message, *_) = server.messages(1)
    message.metadata.__dict__["_message_id"] = "m"
    content: RecordDict = trained_reply(message, to_arrays(START), 0.0).content
    assert dict(content.metric_records["metrics"]) == {server.strategy.flower.weighted_by_key: 1}
    assert CONFIG in message.content
