"""The options of compression: norms, pruning, recovery, quantization, export, measuring, search."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt, MinLen

from fedlite.base.errors import UsageError
from fedlite.base.named import Named
from fedlite.base.options import NEUTRAL, PATH, PATH_OR_NAME, Doc, Options

FORMATS = Named("compress.formats", "fedlite.compress.formats", "FORMAT", open=False)

Norms = Literal["keep", "fold"]
Criterion = Literal["l2", "l1", "taylor", "random"]
Quantization = Literal["static", "dynamic", "weight_only", "fp16", "qat", "none"]


@dataclass(frozen=True)
class MeasureOptions(Options):
    """How an exported file is timed in its runtime, in a process of its own."""

    threads: Annotated[int, Ge(1), Le(256), Doc("of the runtime")] = 1
    warmup: Annotated[int, Ge(0), Doc("calls that are not timed")] = 20
    runs: Annotated[int, Ge(1), Doc("timed calls, for ten seconds at most")] = 200
    batch_sizes: Annotated[
        list[Annotated[int, Ge(1), Le(4096)]], MinLen(1), Doc("examples in a call; 1 among them")
    ] = field(default_factory=lambda: [1, 32])
    eager: Annotated[
        bool, Doc("time teacher and student in eager torch too, whose import takes seconds")
    ] = True


@dataclass(frozen=True)
class TargetOptions(Options):
    """What a search has to reach; null is no limit."""

    latency_ms: Annotated[float | None, Gt(0), Doc("median at batch 1 in the serving runtime")] = (
        None
    )
    bytes: Annotated[int | None, Ge(1), Doc("of the file")] = None


@dataclass(frozen=True)
class CompressSearchOptions(Options):
    """Searching the compression options (docs/search.md)."""

    enabled: Annotated[bool, Doc("search the options below instead of taking those given")] = False
    trials: Annotated[int, Ge(1), Doc("files made and measured, at most")] = 40
    population: Annotated[int, Ge(2), Doc("of one generation of NSGA-II")] = 10
    max_seconds: Annotated[float | None, Gt(0), Doc("of all trials; null: no limit")] = None
    ratios: Annotated[
        list[Annotated[float, Ge(0), Le(0.99)]], MinLen(1), Doc("lowest and highest")
    ] = field(default_factory=lambda: [0.0, 0.6])
    criteria: Annotated[list[Criterion], MinLen(1), Doc("to choose among")] = field(
        default_factory=lambda: ["l2", "l1", "taylor"]
    )
    quantizations: Annotated[list[Quantization], MinLen(1), Doc("to choose among")] = field(
        default_factory=lambda: ["none", "static", "weight_only", "fp16"]
    )
    recovery_steps: Annotated[list[Annotated[int, Ge(0)]], MinLen(1), Doc("to choose among")] = (
        field(default_factory=lambda: [100, 300, 1000])
    )
    norms: Annotated[list[Norms], MinLen(1), Doc("to choose among")] = field(
        default_factory=lambda: ["keep", "fold"]
    )


@dataclass(frozen=True)
class CompressOptions(Options):
    """Pruning, recovery, quantization, export and measurement of the federated student."""

    norms: Annotated[Norms, Doc("fold: exchange norms that cost time for ones that fold")] = "keep"
    norm_steps: Annotated[
        int, Ge(1), Doc("batches of public data on which the exchanged norms are learnt")
    ] = 600
    ratio: Annotated[
        float, Ge(0), Lt(1), Doc("share of channels removed by structured pruning")
    ] = 0.3
    layer_ratios: Annotated[
        dict[str, Annotated[float, Ge(0), Lt(1)]],
        Doc("by layer name, wins over ratio: '+compress.layer_ratios={blocks.0: 0.5}'"),
    ] = field(default_factory=dict)
    criterion: Annotated[Criterion, Doc("which channels are weakest; random is the control")] = "l2"
    schedule: Annotated[
        Literal["one_shot", "iterative"], Doc("iterative: cut and recover in several rounds")
    ] = "one_shot"
    iterations: Annotated[int, Ge(1), Le(100), Doc("of the iterative schedule")] = 3
    round_to: Annotated[int, Ge(1), Doc("widths stay multiples of this")] = 4
    sparsity: Annotated[
        float, Ge(0), Lt(1), Doc("share of the remaining weights set to zero: a smaller gzip only")
    ] = 0.0
    sparsity_criterion: Annotated[
        Literal["global", "local", "gradient"], Doc("global and local: by magnitude")
    ] = "global"
    recovery_steps: Annotated[
        int, Ge(0), Doc("batches of public data on which the pruned student learns, in all")
    ] = 300
    recovery_learning_rate: Annotated[float, Gt(0), Doc("at the first step")] = 3e-3
    recovery_batch_size: Annotated[int, Ge(1), Doc("examples in a batch")] = 64
    recovery_from: Annotated[
        Literal["student", "teacher"], Doc("who teaches the pruned student")
    ] = "student"
    quantization: Annotated[Quantization, Doc("of weights, and of activations where not alone")] = (
        "static"
    )
    bits: Annotated[Literal[8, 4], Doc("of weights; 4 with quantization=weight_only alone")] = 8
    symmetric: Annotated[bool, Doc("ranges of activations around zero")] = False
    per_channel: Annotated[bool, Doc("one scale per output channel, else one per tensor")] = True
    calibration: Annotated[
        Literal["minmax", "percentile"], Doc("how ranges of activations are found")
    ] = "minmax"
    percentile: Annotated[float, Gt(50), Le(100), Doc("with calibration=percentile")] = 99.99
    calibration_size: Annotated[
        int, Ge(1), Doc("public examples that fix the ranges of static quantization")
    ] = 256
    qat_steps: Annotated[
        int, Ge(1), Doc("batches of public data with quantization simulated (quantization=qat)")
    ] = 300
    qat_learning_rate: Annotated[float, Gt(0), Doc("at the first step")] = 1e-4
    formats: Annotated[list[Annotated[str, FORMATS]], MinLen(1), Doc("of the files that ship")] = (
        field(default_factory=lambda: ["onnx"])
    )
    converters: Annotated[
        dict[str, str],
        PATH_OR_NAME,
        NEUTRAL,
        Doc("a format's converter elsewhere: '+compress.converters.litert=PYTHON'"),
    ] = field(default_factory=dict)
    min_snr_db: Annotated[
        float, Doc("a file whose logits are further from the model's does not ship")
    ] = 20.0
    max_accuracy_drop: Annotated[
        float, Ge(0), Le(1), Doc("on public data, against the federated student; worse: refused")
    ] = 0.05
    opset: Annotated[
        int, Ge(18), Le(23), Doc("of the ONNX file; at 21 GroupNorm models run slower")
    ] = 20
    signing_key: Annotated[
        str | None, PATH, NEUTRAL, Doc("PEM file of an ed25519 private key: signs what ships")
    ] = None
    measure: MeasureOptions = field(default_factory=MeasureOptions)
    target: TargetOptions = field(default_factory=TargetOptions)
    search: CompressSearchOptions = field(default_factory=CompressSearchOptions)


def check_quantization(options: CompressOptions) -> None:
    """Refuse a mode of quantization, or bits, that there is not.

    Raises:
        UsageError: names the option and what would be right.
    """
    mode, modes = options.quantization, get_args(Quantization)
    if mode not in modes:
        raise UsageError(f"compress.quantization={mode}: must be one of {', '.join(modes)}")
    if options.bits not in (8, 4):
        raise UsageError(f"compress.bits={options.bits}: must be one of 8, 4")
    if options.bits == 4 and mode != "weight_only":
        raise UsageError(
            f"compress.bits=4: is for weights alone; use compress.quantization=weight_only, not"
            f" {mode}"
        )


def check_compress(options: CompressOptions) -> None:
    """Refuse options of compression that contradict each other.

    Raises:
        UsageError: names the option and what would be right.
    """
    check_quantization(options)
    if unknown := set(options.converters) - set(FORMATS.names()):
        raise UsageError(
            f"compress.converters.{min(unknown)}: no such format; formats:"
            f" {', '.join(FORMATS.names())}"
        )
    if 1 not in options.measure.batch_sizes:
        raise UsageError(f"compress.measure.batch_sizes={options.measure.batch_sizes}: must hold 1")
