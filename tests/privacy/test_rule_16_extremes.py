"""Rule 16, at a client: what is charged has a reply that the server's checks let through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation import training
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.messages import ARRAYS, CONFIG, check_arrays
from fedlite.privacy import policy
from fedlite.runs.config import Config
from tests.privacy.planted import caught
from tests.privacy.ward import OPTIONS, Ward, changed, patients, write_examples

# Options, and values of the request, as a server may send them.
BEYOND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "learning rate": ({"learning_rate": 1e39}, {}),
    "noise": ({}, {"plan.noise_multiplier": 1e39}),
    "sample rate": ({}, {"plan.sample_rate": 1e-40}),
    "pull": ({}, {"proximal-mu": 1e39, "plan.steps": 3}),
    "pull in many steps": ({"learning_rate": 1e6}, {"proximal-mu": 1e6, "plan.steps": 9}),
}
WITHIN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "learning rate": ({"learning_rate": 1e6}, {}),
    "all": (
        {"learning_rate": 1e6},
        {
            "plan.noise_multiplier": 1e6,
            "plan.sample_rate": 1e-12,
            "plan.max_grad_norm": 1e6,
            "plan.expected_examples": 1,
            "plan.steps": 5,
            "proximal-mu": 2e-6,
        },
    ),
}


def check_what_is_charged_is_taken(
    folder: Path, options: dict[str, Any], request: dict[str, Any]
) -> int:
    """The charges after one request: none, or one whose arrays the server takes."""
    ward = Ward(folder)
    write_examples(folder / "own.npz", *patients(12))
    ward.context.run_config[CLIENT_OPTIONS] = changed(OPTIONS, **options)
    ward.ask(ward.teach())
    message = ward.request()
    message.content.config_records[CONFIG].update(request)
    reply = ward.ask(message)
    if ward.charges():
        assert not reply.has_error(), "charged and failed"
        try:
            check_arrays(reply.content.array_records[ARRAYS], ward.student)
        except FedliteError as error:
            raise AssertionError("charged and rejected") from error
    return ward.charges()


@pytest.mark.parametrize(("options", "request_"), BEYOND.values(), ids=BEYOND)
def test_what_leaves_single_precision_is_not_charged(
    options: dict[str, Any], request_: dict[str, Any], tmp_path: Path
) -> None:
    assert check_what_is_charged_is_taken(tmp_path, options, request_) == 0


@pytest.mark.parametrize(("options", "request_"), WITHIN.values(), ids=WITHIN)
def test_what_is_just_allowed_is_charged_and_taken(
    options: dict[str, Any], request_: dict[str, Any], tmp_path: Path
) -> None:
    assert check_what_is_charged_is_taken(tmp_path, options, request_) == 1


@pytest.mark.parametrize(
    ("module", "limit", "without", "case"),
    [
        (policy, "LARGEST_NOISE", 1e300, "noise"),
        (policy, "SMALLEST_RATE", 1e-300, "sample rate"),
        (training, "LARGEST_PULL", 1e300, "pull in many steps"),
    ],
)
def test_planted_limits_that_are_too_wide_are_caught(
    module: Any,
    limit: str,
    without: float,
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, limit, without)
    with caught("charged and"):
        check_what_is_charged_is_taken(tmp_path, *BEYOND[case])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["federation.learning_rate=1e7"], "federation.learning_rate"),
        (["privacy.noise_multiplier=1e7"], "privacy.noise_multiplier"),
        (["privacy.sample_rate=1e-13"], "privacy.sample_rate"),
        (["federation=fedprox", "federation.strategy.proximal_mu=11"], "proximal_mu=11: "),
    ],
    ids=str,
)
def test_a_run_that_its_clients_would_refuse_does_not_start(
    options: list[str], key: str, tiny_config: Callable[..., Config]
) -> None:
    with pytest.raises(UsageError, match=key):
        tiny_config(*options)
