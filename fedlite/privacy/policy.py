"""The device's own rules: what the owner of the data allows, whatever a server asks for.

A policy is a small YAML file on the device (docs/device-policy.md). Every number of a plan is the
server's choice, so :func:`refusal` looks at each of them as if the server meant harm; the budget
itself is kept by the ledger. A refusal follows from policy and request alone: what the data hold,
even how many examples, would be told exactly by a reply that depends on it.
"""

import math
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from re import fullmatch
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fedlite.base.errors import UsageError
from fedlite.privacy.options import (
    LARGEST_NOISE,
    SMALLEST_RATE,
    Accountant,
    RandomnessMode,
    Trust,
    Unit,
)
from fedlite.privacy.plan import PrivacyPlan

# Far outside, single precision rounds the noise away and leaves gradients: at a clip norm of 1e-45
# noise below half of it is exactly 0.
SMALLEST_GRAD_NORM, LARGEST_GRAD_NORM = 1e-6, 1e6

_DATA_SET_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # it names the ledger's file
_EXAMPLE_LEVEL = ("example", "both")

_Rules = TypeVar("_Rules", "Policy", "DataRules")


@dataclass(frozen=True)
class DataRules:
    """What the owner says of the examples on a device; nothing of it comes from a server.

    ``input_shape`` is (C, H, W), (C, L) or (F,); a label is one of ``class_names``, or its place
    among them. Inputs become ``(raw / scale - mean) / std``: public constants that the federation
    agreed on, one for all or one for each leading dimension, never worked out from these examples.
    ``file`` counts from the policy's folder (None: the node config's ``data`` names it);
    ``inputs`` and ``labels`` name its arrays or columns.
    """

    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    file: str | None = None
    inputs: tuple[str, ...] = ("inputs",)
    labels: str = "labels"


@dataclass(frozen=True)
class Policy:
    """The rules for one data set.

    ``data_set`` keys the ledger and is assigned by the owner: a hash of the content would renew
    the budget with every changed row, and leak. ``min_noise_multiplier`` is about what this client
    itself adds under trust local, and about the sum under trust aggregate, where ``min_cohort``
    is the number of clients whose noise this client counts on in every released sum, itself
    included, and ``min_colluders`` the fewest of them that must be expected to side with the
    observer (rule 19). ``data`` describes the examples of a device; a simulated client has none.
    ``models`` are the class paths that a server may name, with ``*`` for any part.
    """

    data_set: str
    max_epsilon: float
    max_delta: float = 1e-5
    min_noise_multiplier: float = 0.0
    units: tuple[str, ...] = ("example",)
    trust: tuple[str, ...] = ("local",)
    min_cohort: int | None = None
    min_colluders: int = 0
    randomness: str = "secure"
    data: DataRules | None = None
    models: tuple[str, ...] = ("fedlite.models.*",)

    def for_client(self, client_id: int) -> "Policy":
        """The same rules for one simulated client, whose data set has an id of its own."""
        return replace(self, data_set=f"{self.data_set}-client-{client_id:04d}")

    def budget(self, plan: PrivacyPlan) -> float:
        """The epsilon at which this client stops: the smaller of the plan's and its own."""
        return min(plan.epsilon, self.max_epsilon)


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        UsageError: unreadable, unknown or missing key, wrong type, or a value that allows
            nothing sensible; one line with the file and the key.
    """
    try:
        content = OmegaConf.load(path)
    except OSError as error:
        raise UsageError(f"policy {path}: cannot be read ({error.strerror or error})") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"policy {path}: is not YAML ({reason})") from error
    if not isinstance(content, DictConfig):
        raise UsageError(f"policy {path}: must be lines of `key: value`")
    data = content.pop("data", None)
    if data is not None and not isinstance(data, DictConfig):
        raise UsageError(f"policy {path}: data: must be lines of `key: value`")
    policy = _parse(Policy, content, f"policy {path}: ")
    if data is not None:
        policy = replace(policy, data=_parse(DataRules, data, f"policy {path}: data."))
    if problem := _problem(policy):
        raise UsageError(f"policy {path}: {problem}")
    return policy


def _parse(rules: type[_Rules], content: DictConfig, where: str) -> _Rules:
    """Keys and types checked; OmegaConf's lists become the tuples that are declared.

    Raises:
        UsageError: begins with ``where`` and the key.
    """
    known = {item.name for item in fields(rules)}
    if unknown := [str(key) for key in content if key not in known]:
        raise UsageError(f"{where}{unknown[0]}: no such key; known: {sorted(known)}")
    for item in fields(rules):
        if item.default is MISSING and item.name not in content:
            raise UsageError(f"{where}{item.name}: missing")
    try:
        schema = OmegaConf.structured(rules)
        OmegaConf.set_readonly(schema, False)
        loaded = OmegaConf.to_object(OmegaConf.merge(schema, content))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{where}{error.full_key}: {reason}") from error
    assert isinstance(loaded, rules)
    lists: dict[str, Any] = {
        item.name: tuple(value)
        for item in fields(rules)
        if isinstance(value := getattr(loaded, item.name), list)
    }
    return replace(loaded, **lists)


def is_data_set_id(text: str) -> bool:
    """Whether ``text`` can name a data set, and its ledger's file."""
    return fullmatch(_DATA_SET_ID, text) is not None


def _problem(policy: Policy) -> str:
    """What is wrong with the values of a policy file, or ""."""
    if not is_data_set_id(policy.data_set):
        return f"data_set: {policy.data_set!r} must be up to 100 of letters, digits, '.', '_', '-'"
    if not 0 < policy.max_epsilon < math.inf:
        return f"max_epsilon: {policy.max_epsilon:g} must be above 0 and finite"
    if not 0 < policy.max_delta < 1:
        return f"max_delta: {policy.max_delta:g} must be above 0 and below 1"
    if not 0 <= policy.min_noise_multiplier < math.inf:
        return f"min_noise_multiplier: {policy.min_noise_multiplier:g} must be 0 or more and finite"
    chosen = [("units", value, get_args(Unit)) for value in policy.units]
    chosen += [("trust", value, get_args(Trust)) for value in policy.trust]
    chosen += [("randomness", policy.randomness, get_args(RandomnessMode))]
    for key, value, choices in chosen:
        if value not in choices:
            return f"{key}: {value!r} is not one of {', '.join(choices)}"
    if "aggregate" in policy.trust and policy.min_cohort is None:
        return "min_cohort: missing; trust aggregate needs the number of clients to count on"
    if policy.min_cohort is not None and policy.min_cohort < 2:
        return f"min_cohort: {policy.min_cohort} must be 2 or more"
    if policy.min_colluders < 0:
        return f"min_colluders: {policy.min_colluders} must be 0 or more"
    return "" if policy.data is None else _problem_of_data(policy.data)


def _problem_of_data(data: DataRules) -> str:
    """What is wrong with the values of a policy's ``data``, or ""."""
    if not 1 <= len(data.input_shape) <= 3 or min(data.input_shape) < 1:
        return f"data.input_shape: {list(data.input_shape)} must be one to three sizes of 1 or more"
    if len(set(data.class_names)) != len(data.class_names) or len(data.class_names) < 2:
        return "data.class_names: must be two or more, and no name twice"
    if not 0 < data.scale < math.inf:
        return f"data.scale: {data.scale:g} must be above 0 and finite"
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (1, data.input_shape[0]) or not all(map(math.isfinite, values)):
            return f"data.{key}: must be 1 or {data.input_shape[0]} finite numbers"
    if min(data.std) <= 0:
        return "data.std: must be above 0"
    if not data.inputs:
        return "data.inputs: must name an array, or one or more columns"
    return ""


def forbidden_code(policy: Policy, named: Iterable[str]) -> str:
    """Why this client builds nothing of the code that a server ``named`` by class paths; "" when it
    may: what is imported runs on the device, beside the data."""
    for path in named:
        if not any(fnmatchcase(path, pattern) for pattern in policy.models):
            return f"class {path[:100]!r}: this client's policy does not let a server name it"
    return ""


def refusal(policy: Policy, plan: PrivacyPlan | None, unit: str) -> str:
    """Why this client takes no part in a request, in words for a person; "" when it does.

    Pure, and a function of public things alone: it goes back to the server. A plan with a larger
    budget than the client's is no reason: the ledger stops it at :meth:`Policy.budget`. What
    ``PrivacyPlan`` refuses itself is not repeated.

    Args:
        plan: the request's example-level plan, None where it has none.
        unit: the unit of privacy that the run's configuration names.
    """
    if unit not in policy.units:
        allowed = ", ".join(policy.units) or "no unit"
        return f"privacy unit {unit}: this client's policy allows {allowed}"
    if plan is None:
        if unit in _EXAMPLE_LEVEL:
            return "this client trains under differential privacy only; the request has no plan"
        return ""
    if unit not in _EXAMPLE_LEVEL:
        return f"privacy unit {unit}: has no example-level plan, but the request brings one"
    return _plan_refusal(policy, plan) or _trust_refusal(policy, plan)


def _plan_refusal(policy: Policy, plan: PrivacyPlan) -> str:
    """Conditions are what must hold, negated, so that NaN fulfils none of them."""
    if plan.accountant not in (accountants := get_args(Accountant)):
        return f"accountant {plan.accountant!r} is not one of {', '.join(accountants)}"
    if plan.randomness != policy.randomness:
        return f"randomness {plan.randomness}: this client's policy is {policy.randomness}"
    if not plan.epsilon > 0:
        return f"epsilon {plan.epsilon:g} is not above 0"
    if not plan.delta <= policy.max_delta:
        return f"delta {plan.delta:g} is above this client's {policy.max_delta:g}"
    if not 0 < plan.noise_multiplier <= LARGEST_NOISE:
        return (
            f"noise multiplier {plan.noise_multiplier:g} is not above 0 and at most"
            f" {LARGEST_NOISE:g}"
        )
    if not policy.min_noise_multiplier <= plan.noise_multiplier:
        return (
            f"noise multiplier {plan.noise_multiplier:g}: this client asks for"
            f" {policy.min_noise_multiplier:g} or more"
        )
    if not (isinstance(plan.steps, int) and plan.steps >= 1):
        return f"steps {plan.steps} is not a whole number of 1 or more"
    if not SMALLEST_RATE <= plan.sample_rate <= 1:
        return f"sample rate {plan.sample_rate:g} is not between {SMALLEST_RATE:g} and 1"
    if not SMALLEST_GRAD_NORM <= plan.max_grad_norm <= LARGEST_GRAD_NORM:
        return (
            f"max grad norm {plan.max_grad_norm:g} is not between {SMALLEST_GRAD_NORM:g} and"
            f" {LARGEST_GRAD_NORM:g}, where floating-point noise is sound"
        )
    if not 1 <= plan.expected_examples < math.inf:
        return f"expected examples {plan.expected_examples} is not 1 or more and finite"
    return ""


def _trust_refusal(policy: Policy, plan: PrivacyPlan) -> str:
    """A server that lies about cohort or colluders would take the noise away (rule 19)."""
    if plan.trust not in policy.trust:
        allowed = ", ".join(policy.trust) or "no"
        return f"trust {plan.trust}: this client's policy allows {allowed} trust"
    if plan.trust == "local":
        return ""
    if policy.min_cohort is None or not plan.min_cohort <= policy.min_cohort:
        return (
            f"cohort {plan.min_cohort}: this client counts on the noise of at most"
            f" {policy.min_cohort or 0} clients"
        )
    if not plan.colluders >= policy.min_colluders:
        return f"colluders {plan.colluders}: this client assumes {policy.min_colluders} or more"
    return ""
