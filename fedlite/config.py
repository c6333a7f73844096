"""The typed schema of ``conf/``: every option, its type and its checks.

Hydra composes the files in ``conf/``; :func:`parse_config` turns the result into these frozen
dataclasses or raises :class:`~fedlite.errors.UsageError` with one line. Nothing else in fedlite
reads an untyped configuration.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedlite.errors import UsageError


@dataclass(frozen=True)
class RunConfig:
    """The run directory and whether to go on in it."""

    dir: str
    resume: bool = False


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of public training inputs. ``shift`` and ``flip`` are for images only."""

    shift: int = 0  # pixels
    flip: bool = False  # left-right
    noise: float = 0.0  # standard deviation, in normalised units


@dataclass(frozen=True)
class DatasetConfig:
    """Where examples come from and how they are split into public, private and test parts."""

    name: str
    source: str  # digits | idx | npz | huggingface
    root: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    layout: str = "channels_first"  # channels_first | channels_last | none
    class_names: list[str] | None = None
    example: str = "one example"  # what one example is, in the data's own words
    metric: str = "accuracy"  # accuracy | macro_f1: the one shown in progress and charts
    public_size: int | None = None  # examples; wins over public_fraction
    public_fraction: float = 0.2
    validation_fraction: float = 0.2  # of the public part, for early stopping
    test_fraction: float = 0.2  # used only where the source has no test part
    holdout_size: int = 0  # training examples set aside, to choose hyperparameters on
    evaluate_on: str = "test"  # test | holdout
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class PartitionConfig:
    """Which client holds which private example (simulations only)."""

    name: str  # iid | dirichlet | pathological | shards | size | natural
    alpha: float = 0.5
    classes_per_client: int = 2
    shards_per_client: int = 2
    skew: str = "linear"  # linear | square | exponential


@dataclass(frozen=True)
class ModelConfig:
    """A network by class path; it is built as ``Class(input_shape, num_classes, **kwargs)``."""

    name: str
    module: str
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherConfig(ModelConfig):
    """The teacher: loaded from ``checkpoint`` or trained on public data with early stopping."""

    checkpoint: str | None = None
    cache_dir: str | None = None
    epochs: int = 60
    patience: int = 12  # epochs without a better validation loss
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05


@dataclass(frozen=True)
class WarmStartConfig:
    """Public distillation of the student before round 1."""

    enabled: bool = True
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3


@dataclass(frozen=True)
class DistillConfig:
    """The distillation loss: ``alpha * CE + (1 - alpha) * T^2 * KL`` (Hinton et al. 2015)."""

    loss: str = "soft"  # soft | hard | relational (never under DP)
    alpha: float = 0.5
    temperature: float = 2.0
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)


@dataclass(frozen=True)
class PrivacyConfig:
    """The privacy budget and mechanism. ``unit=none`` trains without any guarantee."""

    unit: str = "example"  # example | none
    epsilon: float | None = 8.0  # budget of every client over the whole plan
    delta: float = 1e-5
    noise_multiplier: float | None = None  # given directly instead of calibrated from epsilon
    max_grad_norm: float = 1.0
    sample_rate: float = 0.5  # Poisson probability of each example in each local step
    expected_examples: int | None = None  # public: nominal examples of a client
    accountant: str = "prv"  # prv | rdp
    randomness: str = "secure"  # secure | deterministic (NOT PRIVATE)
    ledger_dir: str | None = None


@dataclass(frozen=True)
class StrategyConfig:
    """The server's aggregation: a Flower strategy by name and its settings."""

    name: str = "fedavg"  # fedavg | fedprox | fedadam | fedavgm
    learning_rate: float = 1.0
    momentum: float = 0.0  # fedavgm
    beta_1: float = 0.9  # fedadam
    beta_2: float = 0.99  # fedadam
    tau: float = 1e-3  # fedadam
    proximal_mu: float = 0.0  # fedprox


@dataclass(frozen=True)
class FederationConfig:
    """Clients, rounds, sampling of clients and the local steps of one round."""

    num_clients: int | None = 20  # null: as many as a natural partition has
    rounds: int = 20
    fraction: float = 1.0
    sampling: str = "fixed"  # fixed | bernoulli
    max_participations: int | None = None  # null: derived from rounds, fraction and sampling
    local_steps: int = 1
    learning_rate: float = 0.5
    momentum: float = 0.0
    ema_decay: float = 0.0  # exponential average of the server's iterates; 0 is off
    strategy: StrategyConfig = field(default_factory=StrategyConfig)


@dataclass(frozen=True)
class EngineConfig:
    """Where clients run: in this process and its workers, or on Flower's Ray runtime."""

    name: str = "inprocess"  # inprocess | ray
    num_workers: int = 0  # 0: in this process


@dataclass(frozen=True)
class MeasureConfig:
    """How an exported file is timed in its runtime."""

    threads: int = 1
    warmup: int = 20
    runs: int = 200


@dataclass(frozen=True)
class CompressConfig:
    """Pruning, recovery, quantization, export and measurement of the federated student."""

    ratio: float = 0.3  # share of channels removed by structured pruning
    round_to: int = 4
    sparsity: float = 0.0  # share of the remaining weights set to zero
    recovery_steps: int = 300
    recovery_learning_rate: float = 1e-3
    recovery_batch_size: int = 64
    quantization: str = "static"  # static | dynamic | weight_only | none
    calibration_size: int = 256
    opset: int = 20
    measure: MeasureConfig = field(default_factory=MeasureConfig)


@dataclass(frozen=True)
class TrackingConfig:
    """What is shown while a run goes on."""

    progress: bool = True
    tensorboard: bool = True
    evaluate_every: int = 1  # rounds between evaluations on the test set


@dataclass(frozen=True)
class Config:
    """One run, fully specified."""

    run: RunConfig
    seed: int
    dataset: DatasetConfig
    partition: PartitionConfig
    teacher: TeacherConfig
    student: ModelConfig
    distill: DistillConfig
    privacy: PrivacyConfig
    federation: FederationConfig
    engine: EngineConfig
    compress: CompressConfig
    tracking: TrackingConfig

    @property
    def private(self) -> bool:
        """Whether training carries a differential privacy guarantee unit at all."""
        return self.privacy.unit != "none"

    def to_json(self) -> str:
        """Serialise for a Flower run config; :func:`config_from_json` is the inverse."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.source": ("digits", "idx", "npz", "huggingface"),
    "dataset.layout": ("channels_first", "channels_last", "none"),
    "dataset.metric": ("accuracy", "macro_f1"),
    "dataset.evaluate_on": ("test", "holdout"),
    "partition.name": ("iid", "dirichlet", "pathological", "shards", "size", "natural"),
    "partition.skew": ("linear", "square", "exponential"),
    "distill.loss": ("soft", "hard", "relational"),
    "privacy.unit": ("example", "none"),
    "privacy.accountant": ("prv", "rdp"),
    "privacy.randomness": ("secure", "deterministic"),
    "federation.sampling": ("fixed", "bernoulli"),
    "federation.strategy.name": ("fedavg", "fedprox", "fedadam", "fedavgm"),
    "engine.name": ("inprocess", "ray"),
    "compress.quantization": ("static", "dynamic", "weight_only", "none"),
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
    ("compress.calibration_size", 1, math.inf, True, False),
    ("compress.opset", 18, 23, True, True),
    ("compress.measure.threads", 1, 256, True, True),
    ("compress.measure.warmup", 0, math.inf, True, False),
    ("compress.measure.runs", 1, math.inf, True, False),
    ("tracking.evaluate_every", 1, math.inf, True, False),
)


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
    if config.private:
        if config.privacy.epsilon is None and config.privacy.noise_multiplier is None:
            raise UsageError("privacy: give privacy.epsilon or privacy.noise_multiplier")
        if config.privacy.ledger_dir and config.privacy.randomness == "deterministic":
            raise UsageError(
                "privacy.ledger_dir: deterministic runs are not private and must not mix with"
                " ledgers that outlive them; leave it out or use privacy.randomness=secure"
            )
        if config.distill.loss == "relational":
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
