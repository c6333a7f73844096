"""The typed schema of ``conf/``: every option with its type.

Hydra composes the files in ``conf/``; :func:`fedlite.config_checks.parse_config` turns the result
into these frozen dataclasses. Nothing else in fedlite reads an untyped configuration.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


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
class AggregateTrustConfig:
    """``privacy.trust=aggregate``: noise that is complete only in the sum over a cohort."""

    min_cohort: int | None = None  # smallest cohort that is released; null: derived
    colluders: int = 0  # clients assumed to tell the observer their own noise


@dataclass(frozen=True)
class ClientLevelConfig:
    """Client-level privacy: clip every client's update, sum, add noise to the sum."""

    epsilon: float | None = 8.0  # budget of the released models over all rounds
    delta: float | None = None  # below 1 / clients; null: 0.1 / clients
    noise_multiplier: float | None = None  # given directly instead of calibrated from epsilon
    clip: float = 1.0  # L2 norm of one client's update; where adaptive, the first one
    accountant: str = "pld"  # prv | pld | rdp
    adaptive_clip: bool = False  # follow a noised quantile of the norms (Andrew et al. 2021)
    target_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    bit_noise: float | None = None  # standard deviation on the count of unclipped; null: derived


@dataclass(frozen=True)
class PrivacyConfig:
    """The privacy budgets and mechanisms. ``unit=none`` trains without any guarantee.

    The keys outside ``client`` are those of example-level privacy.
    """

    unit: str = "example"  # example | client | both | none
    trust: str = "local"  # local | aggregate: who sees what the noise must cover
    epsilon: float | None = 8.0  # budget of every client over the whole plan
    delta: float = 1e-5
    noise_multiplier: float | None = None  # given directly instead of calibrated from epsilon
    max_grad_norm: float = 1.0
    sample_rate: float = 0.5  # Poisson probability of each example in each local step
    expected_examples: int | None = None  # public: nominal examples of a client
    accountant: str = "prv"  # prv | pld | rdp
    randomness: str = "secure"  # secure | deterministic (NOT PRIVATE)
    ledger_dir: str | None = None
    policy: str | None = None  # file with the devices' own rules
    aggregate: AggregateTrustConfig = field(default_factory=AggregateTrustConfig)
    client: ClientLevelConfig = field(default_factory=ClientLevelConfig)


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
    batch_sizes: list[int] = field(default_factory=lambda: [1, 32])


@dataclass(frozen=True)
class TargetConfig:
    """What a search has to reach; None is no limit."""

    latency_ms: float | None = None  # median at batch 1 in the serving runtime
    bytes: int | None = None  # of the file


@dataclass(frozen=True)
class CompressSearchConfig:
    """Searching the compression options (docs/search.md)."""

    enabled: bool = False
    trials: int = 40
    population: int = 10  # of a generation of NSGA-II
    max_seconds: float | None = None
    ratios: list[float] = field(default_factory=lambda: [0.0, 0.6])  # lowest and highest
    criteria: list[str] = field(default_factory=lambda: ["l2", "l1", "taylor"])
    quantizations: list[str] = field(
        default_factory=lambda: ["none", "static", "weight_only", "fp16"]
    )
    recovery_steps: list[int] = field(default_factory=lambda: [100, 300, 1000])
    norms: list[str] = field(default_factory=lambda: ["keep", "fold"])


@dataclass(frozen=True)
class CompressConfig:
    """Pruning, recovery, quantization, export and measurement of the federated student."""

    norms: str = "keep"  # keep | fold: exchange norms that cost time for ones that fold
    norm_steps: int = 600  # batches of public data on which the exchanged norms are learnt
    ratio: float = 0.3  # share of channels removed by structured pruning
    layer_ratios: dict[str, float] = field(default_factory=dict)  # by layer name, wins over ratio
    criterion: str = "l2"  # l2 | l1 | taylor | random: which channels are weakest
    schedule: str = "one_shot"  # one_shot | iterative: cut and recover in several rounds
    iterations: int = 3  # of the iterative schedule
    round_to: int = 4
    sparsity: float = 0.0  # share of the remaining weights set to zero
    sparsity_criterion: str = "global"  # global | local (magnitude) | gradient
    recovery_steps: int = 300  # in all
    recovery_learning_rate: float = 1e-3
    recovery_batch_size: int = 64
    recovery_from: str = "student"  # student | teacher: who teaches the pruned student
    quantization: str = "static"  # static | dynamic | weight_only | fp16 | qat | none
    bits: int = 8  # of weights; 4 for weight_only alone
    symmetric: bool = False  # ranges of activations around zero
    per_channel: bool = True  # one scale per output channel, else one per tensor
    calibration: str = "minmax"  # minmax | percentile: ranges of activations
    percentile: float = 99.99
    calibration_size: int = 256
    qat_steps: int = 300  # batches of public data with quantization simulated
    qat_learning_rate: float = 1e-4
    formats: list[str] = field(default_factory=lambda: ["onnx"])
    converters: dict[str, str] = field(default_factory=dict)  # format: Python of its environment
    min_snr_db: float = 20.0  # a file whose logits are further from the model's does not ship
    max_accuracy_drop: float = 0.05  # on public data, against the federated student
    opset: int = 20
    signing_key: str | None = None  # PEM file of an ed25519 private key
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    search: CompressSearchConfig = field(default_factory=CompressSearchConfig)


@dataclass(frozen=True)
class StudentSearchConfig:
    """`fedlite search-student`: the space of students and how they are judged (docs/search.md)."""

    trials: int = 30
    population: int = 10
    max_seconds: float | None = None
    blocks: list[str] = field(
        default_factory=lambda: ["plain", "inverted_residual", "channel_shuffle"]
    )
    widths: list[int] = field(default_factory=lambda: [8, 16, 24, 32, 48, 64])
    depths: list[int] = field(default_factory=lambda: [1, 2, 3])
    kernel_sizes: list[int] = field(default_factory=lambda: [3, 5])
    stages: list[int] = field(default_factory=lambda: [2, 3])
    steps: int = 400  # of public distillation, to score one student
    max_accuracy_drop: float = 0.01  # against the most accurate student within the limits
    target: TargetConfig = field(default_factory=TargetConfig)


@dataclass(frozen=True)
class AuditConfig:
    """What `fedlite audit` attacks, and how hard (docs/audits.md)."""

    parts: list[str] = field(default_factory=lambda: ["dirac", "membership", "inversion"])
    canaries: int = 1000  # of the Dirac audit
    clients: int = 2  # of the reduced cohort in which students are retrained
    targets: int = 8  # retrained students that are attacked
    shadows: int = 32  # retrained students that the attacker learns from
    compressed: bool = True  # compress every retrained student and attack that form too
    control: bool = True  # attack the same training without privacy, too
    inversion_steps: int = 400  # of each search for an example with a given gradient


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
    audit: AuditConfig = field(default_factory=AuditConfig)
    search_student: StudentSearchConfig = field(default_factory=StudentSearchConfig)

    @property
    def private(self) -> bool:
        """Whether training carries a differential privacy guarantee of any unit."""
        return self.privacy.unit != "none"

    @property
    def example_level(self) -> bool:
        """Whether clients train with DP-SGD."""
        return self.privacy.unit in ("example", "both")

    @property
    def client_level(self) -> bool:
        """Whether the server releases clipped and noised sums only."""
        return self.privacy.unit in ("client", "both")

    def to_json(self) -> str:
        """Serialise for a Flower run config; ``config_checks.config_from_json`` is the inverse."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
