"""From an untyped configuration to a checked :class:`~fedlite.config.Config`, or one clear line."""

import dataclasses
import json
import math
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedlite.config import Config
from fedlite.errors import UsageError

CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.source": ("digits", "idx", "npz", "huggingface"),
    "dataset.layout": ("channels_first", "channels_last", "none"),
    "dataset.metric": ("accuracy", "macro_f1"),
    "dataset.evaluate_on": ("test", "holdout"),
    "partition.name": ("iid", "dirichlet", "pathological", "shards", "size", "natural"),
    "partition.skew": ("linear", "square", "exponential"),
    "distill.loss": ("soft", "hard", "relational"),
    "privacy.unit": ("example", "client", "both", "none"),
    "privacy.trust": ("local", "aggregate"),
    "privacy.accountant": ("prv", "pld", "rdp"),
    "privacy.client.accountant": ("prv", "pld", "rdp"),
    "privacy.randomness": ("secure", "deterministic"),
    "federation.sampling": ("fixed", "bernoulli"),
    "federation.strategy.name": ("fedavg", "fedprox", "fedadam", "fedavgm"),
    "engine.name": ("inprocess", "ray"),
    "compress.norms": ("keep", "fold"),
    "compress.criterion": ("l2", "l1", "taylor", "random"),
    "compress.schedule": ("one_shot", "iterative"),
    "compress.sparsity_criterion": ("global", "local", "gradient"),
    "compress.recovery_from": ("student", "teacher"),
    "compress.quantization": ("static", "dynamic", "weight_only", "fp16", "qat", "none"),
    "compress.calibration": ("minmax", "percentile"),
}

# (key, lowest, highest, lowest allowed, highest allowed); None values are skipped.
RANGES: tuple[tuple[str, float, float, bool, bool], ...] = (
    ("seed", 0, math.inf, True, False),
    ("dataset.public_size", 1, math.inf, True, False),
    ("dataset.public_fraction", 0, 1, False, False),
    ("dataset.validation_fraction", 0, 1, False, False),
    ("dataset.test_fraction", 0, 1, False, False),
    ("dataset.holdout_size", 0, math.inf, True, False),
    ("dataset.augment.shift", 0, math.inf, True, False),
    ("dataset.augment.noise", 0, math.inf, True, False),
    ("partition.alpha", 0, math.inf, False, False),
    ("partition.classes_per_client", 1, math.inf, True, False),
    ("partition.shards_per_client", 1, math.inf, True, False),
    ("teacher.epochs", 1, math.inf, True, False),
    ("teacher.patience", 1, math.inf, True, False),
    ("teacher.batch_size", 1, math.inf, True, False),
    ("teacher.learning_rate", 0, math.inf, False, False),
    ("teacher.weight_decay", 0, math.inf, True, False),
    ("teacher.label_smoothing", 0, 1, True, False),
    ("distill.alpha", 0, 1, True, True),
    ("distill.temperature", 0, math.inf, False, False),
    ("distill.warm_start.epochs", 1, math.inf, True, False),
    ("distill.warm_start.batch_size", 1, math.inf, True, False),
    ("distill.warm_start.learning_rate", 0, math.inf, False, False),
    ("distill.warm_start.weight_decay", 0, math.inf, True, False),
    ("privacy.epsilon", 0, math.inf, False, False),
    ("privacy.delta", 0, 1, False, False),
    ("privacy.noise_multiplier", 0, math.inf, False, False),
    ("privacy.max_grad_norm", 0, math.inf, False, False),
    ("privacy.sample_rate", 0, 1, False, True),
    ("privacy.expected_examples", 1, math.inf, True, False),
    ("privacy.aggregate.min_cohort", 2, math.inf, True, False),
    ("privacy.aggregate.colluders", 0, math.inf, True, False),
    ("privacy.client.epsilon", 0, math.inf, False, False),
    ("privacy.client.delta", 0, 1, False, False),
    ("privacy.client.noise_multiplier", 0, math.inf, False, False),
    ("privacy.client.clip", 0, math.inf, False, False),
    ("privacy.client.target_quantile", 0, 1, False, False),
    ("privacy.client.clip_learning_rate", 0, math.inf, False, False),
    ("privacy.client.bit_noise", 0, math.inf, False, False),
    ("federation.num_clients", 1, math.inf, True, False),
    ("federation.rounds", 1, math.inf, True, False),
    ("federation.fraction", 0, 1, False, True),
    ("federation.max_participations", 1, math.inf, True, False),
    ("federation.local_steps", 1, math.inf, True, False),
    ("federation.learning_rate", 0, math.inf, False, False),
    ("federation.momentum", 0, 1, True, False),
    ("federation.ema_decay", 0, 1, True, False),
    ("federation.strategy.learning_rate", 0, math.inf, False, False),
    ("federation.strategy.momentum", 0, 1, True, False),
    ("federation.strategy.proximal_mu", 0, math.inf, True, False),
    ("engine.num_workers", 0, 256, True, True),
    ("compress.ratio", 0, 1, True, False),
    ("compress.round_to", 1, math.inf, True, False),
    ("compress.sparsity", 0, 1, True, False),
    ("compress.recovery_steps", 0, math.inf, True, False),
    ("compress.recovery_learning_rate", 0, math.inf, False, False),
    ("compress.recovery_batch_size", 1, math.inf, True, False),
    ("compress.norm_steps", 1, math.inf, True, False),
    ("compress.iterations", 1, 100, True, True),
    ("compress.calibration_size", 1, math.inf, True, False),
    ("compress.percentile", 50, 100, False, True),
    ("compress.qat_steps", 1, math.inf, True, False),
    ("compress.qat_learning_rate", 0, math.inf, False, False),
    ("compress.min_snr_db", -math.inf, math.inf, False, False),
    ("compress.max_accuracy_drop", 0, 1, True, True),
    ("compress.target.latency_ms", 0, math.inf, False, False),
    ("compress.target.bytes", 1, math.inf, True, False),
    ("compress.search.trials", 1, math.inf, True, False),
    ("compress.search.population", 2, math.inf, True, False),
    ("compress.search.max_seconds", 0, math.inf, False, False),
    ("search_student.trials", 1, math.inf, True, False),
    ("search_student.population", 2, math.inf, True, False),
    ("search_student.max_seconds", 0, math.inf, False, False),
    ("search_student.steps", 1, math.inf, True, False),
    ("search_student.max_accuracy_drop", 0, 1, True, True),
    ("search_student.target.latency_ms", 0, math.inf, False, False),
    ("search_student.target.bytes", 1, math.inf, True, False),
    ("compress.opset", 18, 23, True, True),
    ("compress.measure.threads", 1, 256, True, True),
    ("compress.measure.warmup", 0, math.inf, True, False),
    ("compress.measure.runs", 1, math.inf, True, False),
    ("tracking.evaluate_every", 1, math.inf, True, False),
    ("audit.canaries", 20, 5000, True, True),
    ("audit.clients", 1, math.inf, True, False),
    ("audit.targets", 1, math.inf, True, False),
    ("audit.shadows", 4, math.inf, True, False),
    ("audit.inversion_steps", 1, math.inf, True, False),
)
AUDITS = ("dirac", "membership", "inversion")
FORMATS = ("onnx", "litert", "executorch", "coreml")
BLOCKS = ("plain", "inverted_residual", "channel_shuffle")
# Lists whose every value must be one of the choices.
LISTS: dict[str, tuple[str, ...]] = {
    "audit.parts": AUDITS,
    "compress.formats": FORMATS,
    "compress.search.criteria": CHOICES["compress.criterion"],
    "compress.search.quantizations": CHOICES["compress.quantization"],
    "compress.search.norms": CHOICES["compress.norms"],
    "search_student.blocks": BLOCKS,
}
# Lists whose every value lies within the range, and that hold at least one.
LIST_RANGES: dict[str, tuple[float, float]] = {
    "compress.measure.batch_sizes": (1, 4096),
    "compress.search.ratios": (0, 0.99),
    "compress.search.recovery_steps": (0, math.inf),
    "search_student.widths": (4, 1024),
    "search_student.depths": (1, 20),
    "search_student.kernel_sizes": (1, 11),
    "search_student.stages": (1, 6),
}


def parse_config(composed: DictConfig) -> Config:
    """Turn a composed Hydra configuration into a checked :class:`Config`.

    Raises:
        UsageError: an unknown key, a wrong type, or a value outside its range; one line each.
    """
    try:
        plain = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
        typed = OmegaConf.to_object(OmegaConf.merge(_writable_schema(Config), plain))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        where = error.full_key or "configuration"
        raise UsageError(f"{where}: {reason} (see `fedlite <command> --help`)") from error
    assert isinstance(typed, Config)
    check_config(typed)
    return typed


def _writable_schema(schema: type) -> DictConfig:
    """The schema as OmegaConf nodes; those of frozen dataclasses are else closed to a merge."""
    node: DictConfig = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, False)
    for item in dataclasses.fields(schema):
        if isinstance(item.type, type) and dataclasses.is_dataclass(item.type):
            node[item.name] = _writable_schema(item.type)
    return node


def config_from_json(text: str) -> Config:
    """Rebuild the :class:`Config` that :meth:`Config.to_json` wrote."""
    return parse_config(OmegaConf.create(json.loads(text)))


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def check_config(config: Config) -> None:
    """Check values against their choices and ranges, and options against each other.

    Raises:
        UsageError: names the key, the value found and what would be right.
    """
    for key, allowed in CHOICES.items():
        if (value := _get(config, key)) not in allowed:
            raise UsageError(f"{key}={value}: must be one of {', '.join(allowed)}")
    for key, low, high, low_ok, high_ok in RANGES:
        value = _get(config, key)
        if value is None:
            continue
        above = value >= low if low_ok else value > low
        below = value <= high if high_ok else value < high
        if not (above and below):
            bounds = f"{'>=' if low_ok else '>'} {low:g}"
            if math.isfinite(high):
                bounds += f" and {'<=' if high_ok else '<'} {high:g}"
            else:
                bounds += " and finite"
            raise UsageError(f"{key}={value}: must be {bounds}")
    for key, names in LISTS.items():
        found = _get(config, key)
        if not found or set(found) - set(names):
            raise UsageError(
                f"{key}=[{','.join(found)}]: must hold one or more of {', '.join(names)}"
            )
    for key, (least, most) in LIST_RANGES.items():
        numbers = _get(config, key)
        if not numbers or not all(least <= number <= most for number in numbers):
            raise UsageError(
                f"{key}={numbers}: must hold one or more numbers from {least:g} to {most:g}"
            )
    _check_compression(config)
    if config.private or config.privacy.trust != "local":
        _check_units(config)
        if config.privacy.ledger_dir and config.privacy.randomness == "deterministic":
            raise UsageError(
                "privacy.ledger_dir: deterministic runs are not private and must not mix with"
                " ledgers that outlive them; leave it out or use privacy.randomness=secure"
            )
        if config.example_level and config.distill.loss == "relational":
            raise UsageError(
                "distill.loss=relational: compares rows of a batch, which breaks the clipping of"
                " single examples (privacy rule 6); use distill.loss=soft or privacy=none"
            )
    strategy = config.federation.strategy
    if strategy.name in ("fedavg", "fedprox") and strategy.learning_rate != 1:
        raise UsageError(
            f"federation.strategy.learning_rate={strategy.learning_rate:g}: {strategy.name} has no"
            " server learning rate; use federation=fedavgm"
        )
    if config.federation.num_clients is None and config.partition.name != "natural":
        raise UsageError("federation.num_clients=null: give a number, or use partition=natural")
    if config.dataset.evaluate_on == "holdout" and config.dataset.holdout_size == 0:
        raise UsageError("dataset.evaluate_on=holdout: needs dataset.holdout_size of 1 or more")
    if config.dataset.source != "digits" and not config.dataset.root:
        raise UsageError(f"dataset.root: missing for dataset {config.dataset.name}; give a path")


def _check_compression(config: Config) -> None:
    """Settings of compression that contradict each other."""
    compress = config.compress
    if compress.bits not in (8, 4):
        raise UsageError(f"compress.bits={compress.bits}: must be one of 8, 4")
    if compress.bits == 4 and compress.quantization != "weight_only":
        raise UsageError(
            f"compress.bits=4: is for weights alone; use compress.quantization=weight_only, not"
            f" {compress.quantization}"
        )
    for layer, ratio in compress.layer_ratios.items():
        if not 0 <= ratio < 1:
            raise UsageError(f"compress.layer_ratios.{layer}={ratio}: must be >= 0 and < 1")
    if unknown := set(compress.converters) - set(FORMATS):
        raise UsageError(
            f"compress.converters.{min(unknown)}: no such format; formats: {', '.join(FORMATS)}"
        )
    if even := [size for size in config.search_student.kernel_sizes if size % 2 == 0]:
        raise UsageError(f"search_student.kernel_sizes: {even[0]} is even; kernels must be odd")
    if 1 not in compress.measure.batch_sizes:
        raise UsageError(
            f"compress.measure.batch_sizes={compress.measure.batch_sizes}: must hold 1"
        )


def _check_units(config: Config) -> None:
    """Settings of the units of privacy that contradict each other (rules 15 and 19)."""
    privacy, federation = config.privacy, config.federation
    if config.example_level and privacy.epsilon is None and privacy.noise_multiplier is None:
        raise UsageError("privacy: give privacy.epsilon or privacy.noise_multiplier")
    client = privacy.client
    if config.client_level and client.epsilon is None and client.noise_multiplier is None:
        raise UsageError("privacy: give privacy.client.epsilon or privacy.client.noise_multiplier")
    if config.client_level and federation.fraction < 1 and federation.sampling != "bernoulli":
        raise UsageError(
            f"federation.sampling={federation.sampling}: client-level privacy is accounted for"
            " clients that are drawn one by one; use federation.sampling=bernoulli"
        )
    if privacy.trust == "local":
        return
    if not config.example_level:
        raise UsageError(
            f"privacy.trust=aggregate: is about example-level noise, which privacy.unit="
            f"{privacy.unit} has none of; use privacy.unit=example or both"
        )
    if config.client_level:
        raise UsageError(
            "privacy.unit=both with privacy.trust=aggregate: client-level clipping looks at single"
            " updates, which aggregate trust says nobody sees; use privacy.trust=local"
        )
    if federation.local_steps > 1:
        raise UsageError(
            f"federation.local_steps={federation.local_steps}: privacy.trust=aggregate is valid for"
            " one local step a round only (privacy rule 19); use federation.local_steps=1"
        )
