"""Rule 13: no loss, accuracy, count or histogram of private data leaves a client."""

from collections.abc import Callable

import pytest
from flwr.app import Message

from fedlite.federation.messages import REPORT_KEYS
from tests.privacy.world import ClientWorld


def leaving(reply: Message) -> dict[str, list[str]]:
    return {name: sorted(record) for name, record in reply.content.items() if name != "arrays"}


def test_a_reply_holds_what_the_allow_list_names_and_nothing_else(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("federation.max_participations=1")
    trained = world.train(1)
    assert set(trained.content) == {"arrays", "metrics", "report"}
    assert leaving(trained) == {"metrics": ["num-examples"], "report": ["epsilon", "status"]}
    refused = world.train(2)
    assert leaving(refused) == {"report": ["epsilon", "reason", "status"]}
    assert {"status", "reason", "epsilon"} == REPORT_KEYS


@pytest.mark.parametrize("privacy", ["example", "none"])
def test_replies_do_not_depend_on_the_data_outside_the_arrays(
    privacy: str, client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world(f"privacy={privacy}", "partition=dirichlet")
    told = {
        repr(
            [
                (name, sorted(record.items()))
                for name, record in world.train(1, client_id).content.items()
                if name != "arrays"
            ]
        )
        for client_id in range(world.splits.num_clients)
    }
    assert len(told) == 1
