"""The stages of a run in one table; order, resume, fingerprints, timing and help follow from it."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedlite.base.options import deciding, value_at
from fedlite.compress.options import MeasureOptions
from fedlite.distill.options import CascadeOptions
from fedlite.federation.class_options import StudentClass
from fedlite.federation.noise_walk import LONGEST_CLIP
from fedlite.federation.options import FederationOptions, FleetOptions
from fedlite.privacy.options import DEFAULT_GRADIENTS
from fedlite.runs.config import Config
from fedlite.runs.pipeline import Pipeline

Decides = Callable[[Config], Sequence[Any]]
"""The option values on which a stage's result depends, beyond those of the stages before it."""


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    ``needs`` is the stage whose result it takes. ``runs`` is False for a row that only carries
    options on. ``always`` says that it is run whenever it is asked for, done before or not.
    """

    name: str
    needs: str | None
    decided_by: Decides
    runs: bool = True
    always: bool = False

    def run(self, pipeline: Pipeline) -> Mapping[str, object]:
        """Do the work and return the facts that are kept: ``run`` of the module of its name, which
        is imported now, for most need what no other does."""
        module = importlib.import_module(f"fedlite.runs.stages.{self.name}")
        facts: Mapping[str, object] = module.run(pipeline)
        return facts


def options(*keys: str) -> Decides:
    """The values of these options; of a group, all that decide results."""

    def values(config: Config) -> list[Any]:
        return [_value(config, key) for key in keys]

    return values


STAGES: tuple[Stage, ...] = (
    Stage(
        "data",
        None,
        lambda config: options("dataset", "partition", "federation.num_clients", "seed")(
            _with_default_tokens(_without_public_figures(config))
        ),
        runs=False,
    ),
    Stage("teacher", "data", lambda config: [_teacher(config)]),
    Stage("warm_start", "teacher", options("student", "distill")),
    Stage(
        "plan",
        "warm_start",
        lambda config: [
            *_privacy(_without_public_figures(config)),
            _rounds(_without_public_figures(config)),
            config.tracking.evaluate_every,
            *_fleet(config.fleet),
        ],
    ),
    Stage("federate", "plan", options()),
    Stage(
        "compress",
        "federate",
        lambda config: [*_compression(config), *_keep(config.federation)],
    ),
    Stage("evaluate", "compress", lambda config: _measure(config.compress.measure)),
    Stage("report", "evaluate", lambda config: _cascade(config.cascade), always=True),
    Stage("audit", "evaluate", options("audit")),
    Stage(
        "search_student",
        "teacher",
        lambda config: [
            *options("student", "distill", "search_student")(config),
            *_measure(replace(config.compress.measure, eager=True)),  # trials are files
            *_compression(config),
        ],
    ),
    Stage(
        "tune",
        "data",
        lambda config: [
            _teacher(config),
            *options("student", "distill", "privacy", "tune")(config),
            _rounds(config),
        ],
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}
SHOWN = {  # what the stages with a bar of their own are called beside it
    "teacher": "teacher",
    "warm_start": "public student",
    "federate": "federate",
    "compress": "compress",
    "evaluate": "measure",
}


def fingerprints(config: Config) -> dict[str, str]:
    """What each stage's result depends on, through all stages before it, as a short hash.

    A stage that adds no option has the fingerprint of the one before it.
    """
    marks: dict[str, str] = {}
    for stage in STAGES:
        before = [marks[stage.needs]] if stage.needs else []
        own = list(stage.decided_by(config))
        marks[stage.name] = _hash(*before, *own) if own else before[0]
    return marks


def with_needed(name: str) -> tuple[str, ...]:
    """A stage and all that it needs, in order."""
    stage = BY_NAME[name]
    before = with_needed(stage.needs) if stage.needs else ()
    return (*before, name) if stage.runs else before


def check_needed(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Refuse to run stages where the one before the first of them has not run.

    Raises:
        UsageError: says how to run it.
    """
    needs = BY_NAME[names[0]].needs
    if needs and BY_NAME[needs].runs:
        pipeline.need(needs)


def run_stages(pipeline: Pipeline, names: Sequence[str], again: str | None) -> None:
    """Run stages in order; finished ones with the same options are kept.

    Args:
        again: the stage that is run although it is done: it was asked for by name.
    """
    for name in names:
        stage, mark = BY_NAME[name], pipeline.marks[name]
        if not (stage.always or name == again) and pipeline.run.done(name, mark):
            if name in SHOWN:
                pipeline.progress.skip(SHOWN[name])
            continue
        assert stage.runs, name
        with pipeline.run.stage(name, mark) as facts:
            facts |= stage.run(pipeline)


def _compression(config: Config) -> list[Any]:
    """What decides the compressed student; of a search, and of how it measures, only where it
    searches."""
    found = deciding(config.compress)
    measure = found.pop("measure")
    del measure["eager"]  # trials are files
    if config.compress.search.enabled:
        found["measure"] = measure
    else:
        del found["search"], found["target"]
    return [found]


def _teacher(config: Config) -> dict[str, Any]:
    """What decides the teacher. Inputs in the data set's scale add nothing: they always were."""
    of_scale = ("normalise", "mean", "std")
    values = {key: value for key, value in deciding(config.teacher).items() if key not in of_scale}
    return values | config.teacher.scaling


def _keep(federation: FederationOptions) -> list[Any]:
    """Which student is compressed. The default adds nothing: what directories from before the
    option hold is kept, and shows which student it was."""
    return [] if federation.keep == "best" else [federation.keep]


def _without_public_figures(config: Config) -> Config:
    """Figures that a run works out itself where they are left open, so that giving them changes
    nothing: the clients of a natural partition are counted in any case, and the plan keeps its
    nominal examples (:func:`fedlite.runs.preflight.check_run` refuses others)."""
    federation = config.federation
    if config.partition.name == "natural":
        federation = replace(federation, num_clients=None)
    privacy = replace(config.privacy, expected_examples=None)
    return replace(config, federation=federation, privacy=privacy)


def _with_default_tokens(config: Config) -> Config:
    """Words as where nothing is said of tokens: they were the default's own name once."""
    text = config.dataset.text
    if text.tokenizer == "words":
        text = replace(text, tokenizer=None)
    return replace(config, dataset=replace(config.dataset, text=text))


def _rounds(config: Config) -> dict[str, Any]:
    """What decides the rounds: not which student is kept after them (a matter of compression)."""
    found = {key: value for key, value in deciding(config.federation).items() if key != "keep"}
    if "classes" in found:
        found["classes"] = {name: _class(one) for name, one in config.federation.classes.items()}
    return found


def _class(one: StudentClass) -> dict[str, Any]:
    """What a class of students decides: not its limit, which is checked and changes nothing."""
    values = asdict(one)
    del values["max_bytes"]
    return values


def _privacy(config: Config) -> list[Any]:
    """What decides the plan. The default engine adds nothing: runs from before there were two go
    on with it, and its sums are the same but for rounding. A clip that is left open is that of
    the plan (:func:`fedlite.runs.preflight.check_run` refuses others): it used to be 1."""
    deciding_values = deciding(config.privacy)
    engine = deciding_values.pop("gradients")
    if deciding_values["client"]["clip"] is None:
        deciding_values["client"] = {**deciding_values["client"], "clip": LONGEST_CLIP}
    return [deciding_values, *([] if engine == DEFAULT_GRADIENTS else [engine])]


def _measure(measure: MeasureOptions) -> list[Any]:
    """What decides measurements. Eager torch beside the files adds nothing: it always was there."""
    values = deciding(measure)
    return [values] if values.pop("eager") else [values, "without eager"]


def _cascade(cascade: CascadeOptions) -> list[Any]:
    """What a cascade decides. The defaults add nothing: runs from before there were any go on."""
    values = deciding(cascade)
    return [values] if values else []


def _fleet(fleet: FleetOptions) -> list[Any]:
    """What a fleet decides. None adds nothing: runs from before there were fleets go on."""
    return [] if fleet == FleetOptions() else [asdict(fleet)]


def _value(config: Config, key: str) -> Any:
    found = value_at(config, key)
    return deciding(found) if hasattr(found, "__dataclass_fields__") else found


def _hash(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
