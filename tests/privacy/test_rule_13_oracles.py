"""Rule 13: whatever a server asks of a device, no reply but its noised arrays tells of the data."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.federation import client, client_app, examples
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.messages import ARRAYS, CONFIG, TRAIN
from tests.privacy.planted import Plant, caught
from tests.privacy.ward import (
    DATA,
    NOTHING,
    OPTIONS,
    RULES,
    Ward,
    changed,
    check_no_secret,
    patients,
    told,
    write_examples,
)

# --- no oracle ------------------------------------------------------------------------------


def check_sizes_look_alike(folder: Path) -> None:
    """As many examples as nobody, one, the delta allows, and more: the same replies."""
    seen = []
    for count in (0, 1, 12, 100_000):
        ward = Ward(folder / str(count))
        write_examples(ward.folder / "own.npz", *patients(count))
        taught = (ward.teach(), ward.request(), ward.request(2, delta=1e-3))
        messages = (ward.hello(), ward.request(), ward.request(epsilon=1e-9), *taught)
        replies = [told(ward.ask(message)) for message in messages]
        seen.append((*replies, ward.charges()))
    assert all(replies == seen[0] for replies in seen), "a reply tells how many examples there are"
    assert seen[0][4][0]["report"]["status"] == "trained"
    assert seen[0][-1] == 1


def test_no_reply_tells_how_many_examples_there_are(tmp_path: Path) -> None:
    check_sizes_look_alike(tmp_path)


def refuses_by_the_number(patch: pytest.MonkeyPatch) -> None:
    """As it was: delta is compared with 1 / n where the server asks."""
    real = client.Client.refusal

    def refusal(self: client.Client, plan: Any) -> str:
        if plan is not None and plan.delta * len(self.data) >= 1:
            return f"delta {plan.delta:g} is not below 1/n for this client's data"
        return real(self, plan)

    patch.setattr(client.Client, "refusal", refusal)


def fails_on_nobody(patch: pytest.MonkeyPatch) -> None:
    """As Opacus' sampler does: a client without examples raises after its charge."""
    real = client_app.train_client

    def train(student: Any, part: Any, *rest: Any) -> Any:
        if part.num_examples == 0:
            raise ValueError("num_samples should be a positive integer value")
        return real(student, part, *rest)

    patch.setattr(client_app, "train_client", train)


@pytest.mark.parametrize("plant", [refuses_by_the_number, fails_on_nobody])
def test_planted_oracles_are_caught(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with caught("tells how many examples"):
        check_sizes_look_alike(tmp_path)


def test_nobody_answers_without_privacy_too(tmp_path: Path) -> None:
    """The nominal size of a client without a plan is its own; nobody's must not be divided by."""
    ward = Ward(
        tmp_path,
        rules=RULES + "units: [none]\n",
        run={CLIENT_OPTIONS: changed(OPTIONS, unit="none")},
    )
    write_examples(tmp_path / "own.npz", *patients(0))
    assert all(value.isfinite().all() for value in ward.trained(plan=None).values())


def test_a_server_s_seed_decides_neither_noise_nor_sampling(tmp_path: Path) -> None:
    """The same seed, round, weights and examples, twice: other draws, other students."""
    ward = Ward(tmp_path)
    write_examples(tmp_path / "own.npz", *patients(12))
    drawn = []
    for _ in range(2):
        torch.manual_seed(OPTIONS.seed)
        drawn.append(ward.trained())
        ward.context.state.clear()  # a restart: the reply is made again
    assert not any(torch.equal(drawn[0][name], value) for name, value in drawn[1].items())


# --- a fuzz ---------------------------------------------------------------------------------

VALUES = st.one_of(
    st.sampled_from(
        ["", "example", "client", "none", "rdp", "secure", "/etc/passwd", "../own.npz"]
    ),
    st.integers(-2, 200_000),
    st.floats(width=32),
    st.booleans(),
    st.binary(max_size=4),
)
PLAN_KEYS = st.sampled_from([f"plan.{name}" for name in ("epsilon", "delta", "noise_multiplier",
    "max_grad_norm", "sample_rate", "expected_examples", "steps", "accountant", "randomness",
    "trust", "min_cohort", "colluders", "more")])  # fmt: skip
CONFIG_KEYS = st.one_of(
    PLAN_KEYS, st.sampled_from(["run", "server-round", "teacher-sha256", "proximal-mu", "policy"])
)
JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["soft", "hard", "own.npz", "example", "client", "both", "none", "plain"]),
)
TASK_CHANGES = st.sampled_from(
    [
        {"class_names": ["Zaphod?", "hypochondria?"]},
        {"class_names": ["ill", "healthy"]},
        {"input_shape": [4]},
        {
            "preprocessing": {
                "kind": "normalise",
                "scale": 1e-30,
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
            }
        },
        {"preprocessing": {"kind": "normalise", "scale": 10.0, "mean": [], "std": []}},
    ]
)
OPTION_KEYS = st.sampled_from(
    ["unit", "sample_rate", "local_steps", "learning_rate", "momentum", "seed", "sum_protocol",
     "student", "loss", "more"]
)  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> str:
    units = draw(st.lists(st.sampled_from(["example", "client", "none"]), max_size=2, unique=True))
    return (
        f"data_set: ward-7\nmax_epsilon: {draw(st.sampled_from([1, 4, 50]))}\n"
        f"units: [{', '.join(units)}]\n"
        f"min_noise_multiplier: {draw(st.sampled_from([0, 0.5, 2]))}\n"
        f"models: [{draw(st.sampled_from(['', 'fedlite.models.*', 'fedlite.models.mlp.MLP']))}]\n"
    )


@st.composite
def attacks(draw: st.DrawFn) -> dict[str, Any]:
    options: dict[str, Any] = draw(st.dictionaries(OPTION_KEYS, JSON, max_size=1))
    if draw(st.booleans()):
        options = {"unit": draw(st.sampled_from(["example", "client", "none"]))}
    if task := draw(st.one_of(st.none(), TASK_CHANGES)):
        options["task"] = task
    return {
        "options": options,
        "config": draw(st.dictionaries(CONFIG_KEYS, VALUES, max_size=2)),
        "kind": draw(st.sampled_from(["train", "train", "train", "query.hello", "query.teacher"])),
        "with_plan": draw(st.booleans()) or draw(st.booleans()),
        "taught": draw(st.booleans()) or draw(st.booleans()),
    }


def replies_to(ward: Ward, attack: Mapping[str, Any]) -> list[Any]:
    """What a device tells of itself under an attack; its replies hold no secret."""
    replies = [ward.ask(ward.teach())] if attack["taught"] else []
    request = ward.request() if attack["with_plan"] else ward.request(plan=None)
    record: ConfigRecord = request.content.config_records[CONFIG]
    for key, value in attack["config"].items():
        record[key] = value
    content = RecordDict({ARRAYS: request.content[ARRAYS], CONFIG: record})
    for kind in (attack["kind"], TRAIN):
        replies.append(ward.ask(Message(content, 7, kind)))
    for reply in replies:
        check_no_secret(reply)
    return [told(reply) for reply in replies]


def wards(folder: Path, rules: str, options: Mapping[str, Any]) -> list[Ward]:
    """The same device with ordinary patients, with one more row that is none, and with nobody."""
    sent = dict(options)
    if "task" in sent:
        sent["task"] = json.loads(OPTIONS.to_json())["task"] | sent["task"]
    made = [Ward(folder / name, rules=rules, run={CLIENT_OPTIONS: changed(OPTIONS, **sent)})
            for name in ("ordinary", "wild", "nobody")]  # fmt: skip
    inputs, labels = patients(12)
    write_examples(made[0].folder / "own.npz", inputs, labels)
    wild = np.vstack([inputs, [[31337.0, np.inf, -1e300]]])
    write_examples(made[1].folder / "own.npz", wild, np.append(labels, 31337))
    write_examples(made[2].folder / "own.npz", *patients(0))
    return made


def check_nothing_depends_on_the_data(folder: Path, rules: str, attack: Mapping[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    first, *others = [replies_to(ward, attack) for ward in wards(folder, rules, attack["options"])]
    assert all(repr(other) == repr(first) for other in others), "a reply depends on the data"


@settings(max_examples=20)
@given(rules=policies(), attack=attacks())
def test_no_request_and_no_configuration_reads_the_data(
    tmp_path_factory: pytest.TempPathFactory, rules: str, attack: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    check_nothing_depends_on_the_data(folder, rules, attack)


HONEST = {"options": {}, "config": {}, "kind": "train", "with_plan": True, "taught": True}


def refuses_rows(patch: pytest.MonkeyPatch) -> None:
    """As a strict reader does: one row that is not as it should be fails the whole file."""
    real = examples.read_examples

    def read(path: Path, rules: Any, client_id: int) -> Any:
        found = real(path, rules, client_id)
        if found.left_out:
            raise ValueError("31337 is out of range")
        return found

    patch.setattr(examples, "read_examples", read)
    examples._open_examples.cache_clear()


def counts_in_the_reply(patch: pytest.MonkeyPatch) -> None:
    real, sizes = client_app.train_client, []

    def train(student: Any, part: Any, *rest: Any) -> Any:
        sizes.append(part.num_examples)
        return real(student, part, *rest)

    def reply(message: Message, arrays: Any, epsilon: float) -> Message:
        made = trained(message, arrays, epsilon)
        made.content.metric_records["metrics"]["num-examples"] = sizes[-1]
        return made

    trained = client_app.trained_reply
    patch.setattr(client_app, "train_client", train)
    patch.setattr(client_app, "trained_reply", reply)


@pytest.mark.parametrize("plant", [refuses_rows, counts_in_the_reply])
def test_planted_replies_that_depend_on_the_data_are_caught(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with caught("depends on the data"):
        check_nothing_depends_on_the_data(tmp_path / "fuzz", RULES, HONEST)


def test_a_policy_that_allows_nothing_looks_at_no_file(tmp_path: Path) -> None:
    """What is there and what is not, what can be read and what cannot: all the same."""
    seen: list[list[Any]] = []
    makers: list[Callable[[Path], object]] = [
        lambda path: write_examples(path, *patients(12)),
        lambda path: path.write_bytes(b"31337"),
        lambda path: path.mkdir(),
        lambda path: None,
    ]
    for number, make in enumerate(makers):
        ward = Ward(tmp_path / str(number), rules=NOTHING, data=DATA)
        make(ward.folder / "own.npz")
        seen.append([told(ward.ask(one)) for one in (ward.hello(), ward.teach(), ward.request())])
    assert all(replies == seen[0] for replies in seen)
    assert seen[0][2][0]["report"]["reason"] == (
        "privacy unit example: this client's policy allows no unit"
    )
