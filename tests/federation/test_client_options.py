"""What a client is sent of a run: what its work needs, nothing of the server or other clients."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import UsageError
from fedlite.data.types import Task
from fedlite.federation.client_options import CLIENT_OPTIONS, ClientOptions
from fedlite.federation.messages import CONFIG, State
from fedlite.federation.simulation import SIMULATION
from fedlite.privacy.plan import PrivacyPlan
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import client_options, run_config
from tests.federation.scripted import Answer, Message, ScriptedClients, add, federation
from tests.federation.scripted import run_scripted as play
from tests.privacy.planted import Plant, caught
from tests.privacy.world import Untrained, make_plan
from tests.tasks import shaped

TASK = shaped((1, 8, 8))

NETWORK = {"name", "module", "kwargs"}
ALLOWED = {
    *(f"task.{key}" for key in ("name", "input_shape", "class_names", "metric", "example")),
    "task.columns", "task.sound",
    *(f"task.preprocessing.{key}" for key in ("kind", "scale", "mean", "std")),
    *(f"{network}.{key}" for network in ("teacher", "student") for key in NETWORK),
    *(f"teacher.{key}" for key in ("normalise", "mean", "std")),
    *(f"loss.{key}" for key in ("loss", "alpha", "temperature", "weight")),
    *(f"loss.{key}" for key in ("student_layer", "teacher_layer")),
    "unit", "sample_rate", "local_steps", "learning_rate", "momentum", "seed", "gradients",
    "sum_protocol", "class_weights", "class_name", "augmentations",
    *(f"augment.{key}" for key in ("shift", "flip", "noise")),
}  # fmt: skip

# Paths and keys of the server, wherever an option holds one.
SECRETS = (
    "run.dir=/srv/SECRET/run",
    "dataset.root=/srv/SECRET/data",
    "teacher.checkpoint=/srv/SECRET/teacher.pt",
    "teacher.cache_dir=/srv/SECRET/cache",
    "privacy.ledger_dir=/srv/SECRET/ledgers",
    "privacy.policy=/srv/SECRET/policy.yaml",
    "compress.signing_key=/srv/SECRET/key.pem",
    "+compress.converters.litert=/srv/SECRET/python",
)


def keys_of(plain: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Full keys of what is sent; what a network takes is the run's own and not looked into."""
    for key, value in plain.items():
        if isinstance(value, dict) and key != "kwargs":
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key


# --- the checks -----------------------------------------------------------------------------


def check_the_allow_list(config: Config) -> None:
    sent = client_options(config, TASK).to_json()
    assert set(keys_of(json.loads(sent))) == ALLOWED, "a client is sent more"
    assert "SECRET" not in sent
    assert "/srv" not in sent


def check_nothing_of_other_clients(compose: Callable[..., Config]) -> None:
    """Runs that differ in who else is there send one client the same."""
    runs = (
        compose("federation.num_clients=4"),
        compose("federation.num_clients=9"),
        compose("partition=dirichlet", "partition.alpha=0.0625"),
        compose("federation.fraction=0.5", "federation.rounds=7"),
        compose("privacy.expected_examples=77", "privacy.epsilon=3", "privacy.delta=1e-6"),
    )
    sent = {client_options(config, TASK).to_json() for config in runs}
    assert len(sent) == 1, "a client is told of others"


def test_a_client_is_sent_what_the_allow_list_names_and_nothing_else(
    tiny_config: Callable[..., Config],
) -> None:
    check_the_allow_list(tiny_config(*SECRETS))


def test_a_client_is_sent_nothing_of_other_clients(tiny_config: Callable[..., Config]) -> None:
    check_nothing_of_other_clients(tiny_config)


# --- planted bugs ---------------------------------------------------------------------------


def with_more(patch: pytest.MonkeyPatch, **changes: Callable[..., object]) -> None:
    """``of_run`` with fields made anew of its arguments."""
    real = ClientOptions.of_run

    def of_run(*args: Any) -> ClientOptions:
        made = {name: change(*args) for name, change in changes.items()}
        return replace(real(*args), **made)

    patch.setattr(ClientOptions, "of_run", of_run)


def the_teacher_s_options_whole(patch: pytest.MonkeyPatch) -> None:
    """With the paths of its checkpoint and its cache."""
    with_more(patch, teacher=lambda task, teacher, *rest: teacher)


def the_distillation_s_options_whole(patch: pytest.MonkeyPatch) -> None:
    with_more(patch, loss=lambda task, teacher, student, loss, *rest: loss)


def the_budget_too(patch: pytest.MonkeyPatch) -> None:
    with_more(patch, unit=lambda *args: args[4])


@pytest.mark.parametrize(
    "plant", [the_teacher_s_options_whole, the_distillation_s_options_whole, the_budget_too]
)
def test_planted_options_are_caught(
    plant: Plant, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with caught("a client is sent more"):
        check_the_allow_list(tiny_config(*SECRETS))


def seed_of_the_cohorts(patch: pytest.MonkeyPatch) -> None:
    """A number that follows from how many clients there are."""
    with_more(patch, seed=lambda *args: args[6] + args[5].num_clients)


def test_planted_facts_of_other_clients_are_caught(
    tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_of_the_cohorts(monkeypatch)
    with caught("a client is told of others"):
        check_nothing_of_other_clients(tiny_config)


# --- further promises -----------------------------------------------------------------------


def test_a_run_config_holds_these_options_and_the_simulation_beside_them(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config()
    pipeline = Untrained(config, tmp_path)
    found = run_config(pipeline)
    assert set(found) == {CLIENT_OPTIONS, SIMULATION}
    assert found[CLIENT_OPTIONS] == client_options(config, pipeline.splits.task).to_json()


@pytest.mark.parametrize(
    ("plan", "options", "more"),
    [
        (None, (), set()),
        (None, ("federation=fedprox",), {"proximal-mu"}),
        (make_plan(), (), {f"plan.{key}" for key in PrivacyPlan.__dataclass_fields__}),
    ],
    ids=["not private", "proximal", "private"],
)
def test_a_request_holds_its_round_its_plan_and_nothing_of_others(
    plan: PrivacyPlan | None, options: tuple[str, ...], more: set[str], tmp_path: Path
) -> None:
    seen: list[set[str]] = []

    def looking(answer: Answer) -> Answer:
        def look(message: Message, state: State) -> Message:
            seen.append(set(message.content.config_records[CONFIG]))
            assert set(message.content) == {"arrays", "config"}
            return answer(message, state)

        return look

    made = federation(tmp_path, 2, *options, plan=plan)
    play(ScriptedClients([looking(add(1.0)), looking(add(2.0))]), made)
    assert len(seen) == 4
    assert all(keys == {"run", "teacher-sha256", "server-round"} | more for keys in seen)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("privacy=none", "distill=hard", "federation=fedprox", "student=mlp"),
        ("privacy=both", "federation.momentum=0.5", "seed=7"),
    ],
    ids=" ".join,
)
def test_what_is_sent_is_read_back_as_it_was(
    overrides: tuple[str, ...], tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(*overrides)
    sent = client_options(config, TASK)
    back = ClientOptions.from_json(sent.to_json())
    assert back == sent
    assert (back.private, back.example_level) == (
        config.privacy.private,
        config.privacy.example_level,
    )
    assert isinstance(back.task, Task)
    assert back.task == TASK


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "person"}, "unit=person"),
        ({"local_steps": "many"}, "local_steps=many"),
        ({"ledger_dir": "/tmp/elsewhere"}, "ledger_dir"),
    ],
)
def test_options_that_cannot_be_are_refused_by_the_client(
    change: dict[str, object], words: str, tiny_config: Callable[..., Config]
) -> None:
    plain = json.loads(client_options(tiny_config(), TASK).to_json())
    with pytest.raises(UsageError, match=words) as refusal:
        ClientOptions.from_json(json.dumps(plain | change))
    assert "\n" not in str(refusal.value)
