"""What each stage's result depends on, as a hash: a stage with the same one is not run again."""

import dataclasses
import hashlib
import json
from typing import Any

from fedlite.config import Config
from fedlite.run_directory import portable_path


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def stage_fingerprints(config: Config) -> dict[str, str]:
    """What each stage's result depends on, through all stages before it."""
    dataset, teacher = dataclasses.asdict(config.dataset), dataclasses.asdict(config.teacher)
    for options, key in ((dataset, "root"), (teacher, "checkpoint")):
        options[key] = options[key] and portable_path(options[key])
    del teacher["cache_dir"]
    privacy = dataclasses.asdict(config.privacy)
    del privacy["ledger_dir"]
    privacy["policy"] = privacy["policy"] and portable_path(privacy["policy"])
    data = fingerprint(
        dataset,
        dataclasses.asdict(config.partition),
        config.federation.num_clients,
        config.seed,
    )
    marks = {"teacher": fingerprint(data, teacher)}
    marks["warm_start"] = fingerprint(
        marks["teacher"], dataclasses.asdict(config.student), dataclasses.asdict(config.distill)
    )
    marks["federate"] = fingerprint(
        marks["warm_start"],
        privacy,
        dataclasses.asdict(config.federation),
        config.tracking.evaluate_every,
    )
    compress = dataclasses.asdict(config.compress)
    measure = compress.pop("measure")
    for unrelated in ("signing_key", "converters"):
        del compress[unrelated]
    if not compress["search"]["enabled"]:
        del compress["search"], compress["target"]
    else:
        compress["measure"] = measure
    marks["compress"] = fingerprint(marks["federate"], compress)
    marks["evaluate"] = fingerprint(marks["compress"], measure)
    marks["report"] = marks["evaluate"]
    marks["search_student"] = fingerprint(
        marks["warm_start"], dataclasses.asdict(config.search_student), compress, measure
    )
    marks["audit"] = fingerprint(marks["evaluate"], dataclasses.asdict(config.audit))
    return marks
