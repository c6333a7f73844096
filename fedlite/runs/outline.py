"""What a run is about to do, in three lines: clients and rounds, noise, what is protected."""

from collections.abc import Iterator

from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.words import NOT_PRIVATE, epsilon_text
from fedlite.runs.pipeline import Pipeline

AGAINST = {
    "local": "against everyone, the server included",
    "aggregate": "against those who see sums over {cohort} or more clients (an assumption)",
    "central": "against those who see released models; the server is trusted",
}


def outline(pipeline: Pipeline) -> list[str]:
    """The lines, from the plans as they are calibrated."""
    federation, plans = pipeline.config.federation, pipeline.plans
    asked = "all" if federation.fraction >= 1 else f"{100 * federation.fraction:.3g}%"
    steps = federation.local_steps
    lines = [
        f"plan       {pipeline.splits.num_clients} clients, {asked} of them in each of"
        f" {federation.rounds} rounds, {steps} local step{'s' if steps > 1 else ''} each"
    ]
    if plans.example is None and plans.client is None:
        return [*lines, "noise      none", f"protected  nothing: {NOT_PRIVATE}"]
    noise, protected = "; ".join(_noise(pipeline)), "; ".join(_protected(pipeline))
    if pipeline.config.privacy.randomness == "deterministic":
        protected = f"nothing: {NOT_PRIVATE} (privacy.randomness=deterministic)"
    return [*lines, f"noise      {noise}", f"protected  {protected}"]


def _noise(pipeline: Pipeline) -> Iterator[str]:
    if example := pipeline.plans.example:
        noise = f"{example.noise_multiplier:.3g} x the clip norm {_added(example)}"
        yield f"{noise}, {_spends(example)}"
    if client := pipeline.plans.client:
        yield f"{client.noise_multiplier:.3g} x the clip norm by the server, {_spends(client)}"


def _added(plan: PrivacyPlan) -> str:
    if plan.trust == "local":
        return "by each client"
    return f"in a sum ({plan.client_noise_multiplier:.3g} by each client)"


def _spends(plan: PrivacyPlan | ClientPlan) -> str:
    return f"epsilon {epsilon_text(plan.epsilon)} at most at delta {plan.delta:g}"


def _protected(pipeline: Pipeline) -> Iterator[str]:
    if example := pipeline.plans.example:
        against = AGAINST[example.trust].format(cohort=example.min_cohort)
        yield f"{pipeline.config.dataset.example}, {against}"
    if pipeline.plans.client:
        yield f"all the data of one client, {AGAINST['central']}"
