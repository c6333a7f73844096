"""The privacy statement: what the guarantee says in plain words, its numbers, and its limits."""

import math
from collections.abc import Mapping

from fedlite.report.parts import plain
from fedlite.report.schema import ClientUnit, ExampleUnit, PrivacySection
from fedlite.report.together import NO_JOBS, together_sentences
from fedlite.report.words import NOT_PRIVATE, epsilon_text, is_private, not_private_reason

_OBSERVERS = {
    "local": (
        "The noise is added on the device, so the guarantee also holds against the server: the"
        " observer below may hold everything the server ever received from the client, and every"
        " model made from it."
    ),
    "aggregate": (
        "The noise is complete only in the sum over a cohort. **It is an assumption, not a"
        " protocol, that the server sees nothing but the sum**; the observer below holds the sums"
        " and every model made from them."
    ),
    "central": (
        "The server is trusted to add the noise. The observer below holds every released model,"
        " but not what the server received."
    ),
}

_SUM_OVER_CLIENTS = """\
The example-level epsilon of the system is the maximum over clients; for a person who has one
example with each of several clients it is the sum of theirs, at the sum of their deltas. No
amplification by the sampling of clients is claimed."""

_SECRET_COHORT = """\
The client-level epsilon counts on nobody outside knowing which clients a round asked. It is for
the released models: what else this run wrote (counts, epsilons, traffic) is for its operator."""

_NOT_COVERED = """\
### Not covered

- The teacher's training data and all other public data.
- How many examples a client holds, whether and when it took part, and how long it took.
- Earlier or other runs on the same private data, such as tuning runs: each spends its own epsilon.
- A private test set that is used again and again.
- The label statistics with which a simulation draws its public, held-out and test parts and divides
  the rest among clients, and their picture."""


PROTECTS_NOTHING = 20.0  # an epsilon beyond which the bound on guesses is 100%


def odds_text(epsilon: float) -> str:
    """How many times as likely, as ``e^8.00 = 2,981.0``: of the epsilon that is shown, rounded up.

    The one place where e^epsilon is computed for people to read.
    """
    shown = epsilon_text(epsilon)
    if math.isinf(epsilon):
        return "any number of"
    if float(shown) < 15:
        return f"e^{shown} = {math.ceil(10 * math.exp(float(shown))) / 10:,.1f}"
    return f"e^{shown} (about 10^{math.ceil(float(shown) / math.log(10))})"


def _derived(privacy: PrivacySection) -> str:
    """The constants that should have been public and were not, as one more limit."""
    derived = privacy.get("derived_constants")
    if not derived:
        return ""
    constants = "; ".join(f"`{key}`: {origin}" for key, origin in derived.items())
    return f"\n- Constants that this simulation worked out from its private data: {constants}."


def guess_bound(epsilon: float, delta: float) -> float:
    """Best possible share of right guesses whether an example was used, at even prior odds.

    Under (epsilon, delta)-differential privacy no test beats ``(e^epsilon + delta) / (1 +
    e^epsilon)`` (from the region of Kairouz, Oh and Viswanath 2015, theorem 2.1).
    """
    return (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon))


def _in_words(unit: ExampleUnit | ClientUnit, protects: str) -> str:
    epsilon, delta = unit["epsilon_max"], unit["delta"]
    bound = math.ceil(min(1.0, guess_bound(epsilon, delta)) * 1e4) / 100
    what = "all the data of one client" if unit["unit"] == "client" else plain(protects)
    words = [
        f"**What is protected:** {what}. {_OBSERVERS[unit['trust']]}",
        f"**What epsilon {epsilon_text(epsilon)} means:** with or without that one {unit['unit']},"
        " everything the observer can see is almost equally likely: no outcome becomes more than"
        f" {odds_text(epsilon)} times as likely, save for a chance of {delta:g}. An"
        f" observer who knows all other {unit['unit']}s, and for whom it was an"
        f" even bet that this one was used, guesses right at most {bound:.2f}% of the time (50% is"
        " blind guessing).",
    ]
    if unit["unit"] == "example":
        if "local_epsilon_max" in unit:
            words.append(_without_assumption(unit))
        words.append(
            "**Whom it does not protect:** a person who has many examples. The guarantee is for one"
            f" example at a time. {_groups(unit)}"
        )
    return "\n\n".join(words)


def _groups(unit: ExampleUnit) -> str:
    """What several examples of one client cost together, as far as the report holds it."""
    groups = unit.get("groups")
    if not groups:
        return "What several of them cost together is not got by multiplying: it can be more."
    costs = " and ".join(
        f"{epsilon_text(epsilon)} for {size}"
        + (", which protects nothing" if epsilon > PROTECTS_NOTHING else "")
        for size, epsilon in groups.items()
    )
    return (
        f"For several examples of one client together epsilon is at most {costs}, at the same delta"
        " (group privacy of the sampled Gaussian steps, Ganesh 2024, arXiv 2401.10294): not their"
        " number times epsilon, which can be too little."
    )


def _without_assumption(unit: ExampleUnit) -> str:
    local = unit["local_epsilon_max"]
    nothing = ", which protects nothing" if local > PROTECTS_NOTHING else ""
    return (
        "**Without that assumption:** towards an observer who sees single updates, the noise of one"
        f" client alone gives epsilon {epsilon_text(local)}{nothing}. The noise is complete in sums"
        f" over {unit['min_cohort']} clients or more ({unit['colluders']} of them assumed to"
        " collude); smaller sums were not released."
    )


_NUMBERS = (
    ("Unit", "unit"),
    ("Adjacency", "adjacency"),
    ("Budget (epsilon)", "budget"),
    ("Delta", "delta"),
    ("Epsilon spent, maximum over clients", "epsilon_max"),
    ("Epsilon spent, mean and p95 over clients", "epsilon_mean", "epsilon_p95"),
    ("Epsilon spent, by the RDP accountant", "epsilon_rdp_max"),
    ("Accountant", "accountant"),
    ("Noise multiplier", "noise_multiplier"),
    ("Max grad norm (clipping)", "max_grad_norm"),
    ("Sampling", "sampling"),
    ("Sample rate", "sample_rate"),
    ("Steps of each participation", "steps"),
    ("Participations: most of a client, and allowed", "participations_max", "max_participations"),
    ("Clip of one client's update (the first, where adaptive)", "clip"),
    ("Clip adapts to a noised quantile", "adaptive_clip"),
    ("Expected cohort, the constant divisor", "expected_cohort"),
    ("Rounds charged, and planned", "rounds_charged", "max_rounds"),
    ("Smallest cohort released", "min_cohort"),
    ("Colluders assumed", "colluders"),
    ("Noise multiplier of one client alone", "client_noise_multiplier"),
    ("Epsilon towards an observer of single updates", "local_epsilon_max"),
    ("Randomness", "randomness"),
    ("Trust", "trust"),
    ("Audited lower bound of epsilon", "audited_epsilon"),
    ("The audit's own claim, and its delta", "audited_claim", "audited_delta"),
    ("What the audit attacked", "audited_objects"),
    ("What the audit found", "audited_verdict"),
)


def privacy_numbers(unit: Mapping[str, object]) -> str:
    """A markdown table of all numbers that one entry of the report's ``units`` holds.

    Its keys are looked up by the table of labels above, so here it is a plain mapping.
    """

    def shown(key: str) -> str:
        value = unit[key]
        if not isinstance(value, float):
            return {"None": "none", "True": "yes", "False": "no"}.get(str(value), str(value))
        if key == "audited_epsilon":  # a lower bound is rounded down
            return f"{math.floor(100 * value) / 100:.2f}"
        return epsilon_text(value) if "epsilon" in key else f"{value:.5g}"

    rows = [
        f"| {label} | {' and '.join(map(shown, keys))} |"
        for label, *keys in _NUMBERS
        if all(key in unit for key in keys)
    ]
    title = f"{unit['unit']}-level guarantee".capitalize()
    return "\n".join([f"| {title} | |", "| :-- | :-- |", *rows])


def privacy_in_numbers(privacy: PrivacySection) -> list[str]:
    """A table of all numbers for each unit that is protected."""
    return [
        privacy_numbers({"audited_epsilon": "not audited in this run", **unit})
        for unit in privacy["units"]
    ]


def privacy_in_words(privacy: PrivacySection) -> list[str]:
    """The guarantee as paragraphs of markdown, without the tables of its numbers.

    Args:
        privacy: the ``privacy`` part of the report (docs/report.md).

    Returns:
        Paragraphs, the first of them with **NOT PRIVATE** if the run gives no guarantee.
    """
    return [*_promise(privacy), *_limits(privacy)]


def privacy_statement(privacy: PrivacySection) -> str:
    """State a run's guarantee as markdown: plain words, every number, and what is not covered.

    Args:
        privacy: the ``privacy`` part of the report (docs/report.md).

    Returns:
        Markdown that begins with **NOT PRIVATE** if the run gives no guarantee.
    """
    numbers = privacy_in_numbers(privacy)
    if len(numbers) > 1:
        numbers = ["### In numbers", *numbers]
    return "\n\n".join([*_promise(privacy), *numbers, *_limits(privacy)]) + "\n"


def _promise(privacy: PrivacySection) -> list[str]:
    parts = []
    if not is_private(privacy):
        parts.append(
            f"🛑 **{NOT_PRIVATE}**: {not_private_reason(privacy)}. Do not give these models, or"
            " anything else made from this run, to anybody who may not see the private data."
        )
    if privacy["private"] and not is_private(privacy):
        parts.append("What follows would hold for the same plan with secret randomness.")
    for unit in privacy["units"]:
        if len(privacy["units"]) > 1:
            parts.append(f"### {unit['unit'].capitalize()}-level")
        parts.append(_in_words(unit, privacy["protects"]))
    return parts


def _limits(privacy: PrivacySection) -> list[str]:
    parts = []
    units = {unit["unit"] for unit in privacy["units"]}
    if "example" in units:
        parts.append(_SUM_OVER_CLIENTS)
    if "client" in units:
        parts.append(_SECRET_COHORT)
    if together := together_sentences(privacy.get("together", NO_JOBS)):
        parts.append("**One of several jobs.** " + " ".join(together))
    if privacy["private"]:
        parts.append(_NOT_COVERED + _derived(privacy))
    return parts
