"""Rule 13: no loss, accuracy, count or histogram of private data leaves a client."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from fedlite.base.errors import FedliteError
from fedlite.federation import client_app
from fedlite.federation.messages import (
    ARRAYS,
    METRICS,
    REPORT,
    REPORT_KEYS,
    WEIGHT,
    check_reply,
)
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld

Add = Callable[[RecordDict, int], None]  # what a bug adds to a reply; the client's example count


def told(reply: Message) -> dict[str, dict[str, Any]]:
    """All of a reply but the arrays."""
    return {name: dict(record) for name, record in reply.content.items() if name != ARRAYS}


# --- the checks -----------------------------------------------------------------------------


def check_the_allow_list(world: ClientWorld) -> None:
    """One trained and one refused reply; a plan of one participation."""
    trained, refused = world.train(1), world.train(2)
    assert set(trained.content) == {ARRAYS, METRICS, REPORT}, "the reply holds more"
    keys = {name: sorted(record) for name, record in told(trained).items()}
    assert keys == {METRICS: [WEIGHT], REPORT: ["epsilon", "status"]}, "the reply holds more"
    assert {name: set(record) for name, record in told(refused).items()} == {REPORT: REPORT_KEYS}


def check_clients_tell_the_same(world: ClientWorld) -> None:
    """Clients with other data, of other sizes, say the same apart from their arrays."""
    assert len(set(world.splits.client_sizes())) > 1
    replies = [told(world.train(1, i)) for i in range(world.splits.num_clients)]
    assert all(reply == replies[0] for reply in replies), "what is told depends on the data"


def test_a_reply_holds_what_the_allow_list_names_and_nothing_else(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_the_allow_list(client_world("federation.max_participations=1"))
    assert {"status", "reason", "epsilon"} == REPORT_KEYS


@pytest.mark.parametrize("privacy", ["example", "client", "aggregate", "none"])
def test_replies_do_not_depend_on_the_data_outside_the_arrays(
    privacy: str, client_world: Callable[..., ClientWorld]
) -> None:
    check_clients_tell_the_same(client_world(f"privacy={privacy}", "partition=dirichlet"))


# --- planted bugs ---------------------------------------------------------------------------


def loss(content: RecordDict, examples: int) -> None:
    content.metric_records[METRICS]["loss"] = 0.25


def accuracy(content: RecordDict, examples: int) -> None:
    content.config_records[REPORT]["accuracy"] = 0.75


def label_histogram(content: RecordDict, examples: int) -> None:
    content["histogram"] = ArrayRecord([np.ones(10)])


def more_metrics(content: RecordDict, examples: int) -> None:
    content["evaluation"] = MetricRecord({"f1": 0.5})


def number_of_examples(content: RecordDict, examples: int) -> None:
    """Flower's own key, so only its value gives it away."""
    content.metric_records[METRICS][WEIGHT] = examples


def plant(patch: pytest.MonkeyPatch, world: ClientWorld, add: Add) -> None:
    real = client_app.trained_reply

    def reply(message: Message, *args: Any) -> Message:
        made = real(message, *args)
        client_id = message.metadata.dst_node_id - min(world.grid.get_node_ids())
        add(made.content, world.splits.client_sizes()[client_id])
        return made

    patch.setattr(client_app, "trained_reply", reply)


@pytest.mark.parametrize("add", [loss, accuracy, label_histogram, more_metrics])
def test_planted_keys_are_caught_and_rejected_by_the_server(
    add: Add, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world("federation.max_participations=1")
    plant(monkeypatch, world, add)
    with caught("the reply holds more"):
        check_the_allow_list(world)
    with pytest.raises(FedliteError, match="reply"):
        check_reply(world.train(1, client_id=1).content)


def test_planted_counts_are_caught_and_rejected_by_the_server(
    client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world("partition=dirichlet")
    plant(monkeypatch, world, number_of_examples)
    with caught("what is told depends on the data"):
        check_clients_tell_the_same(world)
    with pytest.raises(FedliteError, match="num-examples = 1"):
        check_reply(world.train(2).content)
