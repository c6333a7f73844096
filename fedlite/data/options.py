"""The options of the data: ``dataset``, with its augmentation, and ``partition``."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from fedlite.base.named import Named
from fedlite.base.options import LATER, PATH_OR_NAME, Doc, Options
from fedlite.base.records import Metric

SOURCES = Named("dataset.source", "fedlite.data.sources", "read")
PARTITIONS = Named("partition.name", "fedlite.data.partitions", "PARTITION")

Standardise = Literal["standard", "robust", "none"]


@dataclass(frozen=True)
class AugmentOptions(Options):
    """Augmentation of public training inputs, and of clients' with ``privacy.augmentations``.
    ``shift`` and ``flip`` are for images only."""

    shift: Annotated[int, Ge(0), Doc("largest shift of images, in pixels")] = 0
    flip: Annotated[bool, Doc("mirror half of the images left to right")] = False
    noise: Annotated[float, Ge(0), Doc("standard deviation, in normalised units")] = 0.0

    @property
    def changes(self) -> bool:
        """Whether a copy may differ from what it is one of."""
        return bool(self.shift or self.flip or self.noise)


@dataclass(frozen=True)
class TextOptions(Options):
    """How texts become numbers. Vocabulary and length come from public texts alone.

    ``tokenizer`` null is the one of the teacher's folder, where it has one, else ``words``.
    """

    tokenizer: Annotated[
        str | None,
        PATH_OR_NAME,
        Doc("words, pieces (of words, on bytes), characters, or a tokenizer.json or its folder"),
    ] = None
    vocabulary: Annotated[int, Ge(3), Doc("most tokens; rarer ones are unknown")] = 2000
    length: Annotated[
        int | None, Ge(1), Doc("tokens that a model sees; null: what 95% of public texts have")
    ] = None
    lowercase: Annotated[bool, Doc("read capitals as small letters; not of a file")] = True


@dataclass(frozen=True)
class SoundOptions(Options):
    """How recordings become log-mel spectrograms; all of it is public."""

    rate: Annotated[int, Ge(2000), Le(192_000), Doc("Hz to which recordings are brought")] = 16_000
    seconds: Annotated[
        float, Gt(0), Le(60), Doc("that a model hears: the loudest of a longer recording")
    ] = 1.0
    window: Annotated[float, Gt(0), Le(1000), Doc("milliseconds of a frame")] = 30.0
    hop: Annotated[float, Gt(0), Le(1000), Doc("milliseconds from frame to frame")] = 20.0
    bands: Annotated[int, Ge(1), Le(512), Doc("mel bands, from 20 Hz to half the rate")] = 40
    floor: Annotated[
        float, Ge(-200), Lt(0), Doc("decibels below a full-scale sine that count as silence")
    ] = -80.0


@dataclass(frozen=True)
class DatasetOptions(Options):
    """Where examples come from and how they are split into public, private and test parts."""

    name: Annotated[str, Doc("of the data set, in reports and ledgers")]
    source: Annotated[str, SOURCES, Doc("what reads it")]
    root: Annotated[
        str | None, PATH_OR_NAME, Doc("folder or file; for huggingface also a name on the hub")
    ] = None
    files: Annotated[dict[str, str], Doc("file names under root")] = field(default_factory=dict)
    keys: Annotated[dict[str, str], Doc("names of arrays or columns")] = field(default_factory=dict)
    layout: Annotated[
        Literal["channels_first", "channels_last", "none"], Doc("where inputs have their channels")
    ] = "channels_first"
    size: Annotated[
        int | None,
        LATER,
        Ge(1),
        Doc("of pictures, pixels of a side; null: as they are"),
    ] = None
    colour: Annotated[
        Literal["auto", "grey", "rgb"],
        LATER,
        Doc("pictures: auto is grey where none is in colour"),
    ] = "auto"
    text: Annotated[TextOptions, LATER] = field(default_factory=TextOptions)
    sound: Annotated[SoundOptions, LATER] = field(default_factory=SoundOptions)
    standardise: Annotated[
        Standardise,
        LATER,
        Doc("by public mean and deviation; by median and quartiles; not at all"),
    ] = "standard"
    class_names: Annotated[list[str] | None, Doc("null: as the source has them")] = None
    example: Annotated[str, Doc("what one example is: the unit of example-level privacy")] = (
        "one example"
    )
    metric: Annotated[Metric, Doc("by which students and files are judged and shown")] = "accuracy"
    public_size: Annotated[int | None, Ge(1), Doc("examples; wins over public_fraction")] = None
    public_fraction: Annotated[float, Gt(0), Lt(1), Doc("public share of the training part")] = 0.2
    validation_fraction: Annotated[float, Gt(0), Lt(1), Doc("of the public part")] = 0.2
    test_fraction: Annotated[
        float, Gt(0), Lt(1), Doc("used only where the source has no test part")
    ] = 0.2
    holdout_size: Annotated[
        int, Ge(0), Doc("training examples set aside, to choose hyperparameters on")
    ] = 0
    evaluate_on: Annotated[Literal["test", "holdout"], Doc("what measures the models")] = "test"
    augment: AugmentOptions = field(default_factory=AugmentOptions)


@dataclass(frozen=True)
class PartitionOptions(Options):
    """Which client holds which private example (simulations only)."""

    name: Annotated[str, PARTITIONS, Doc("how private examples are divided")]
    alpha: Annotated[float, Gt(0), Doc("dirichlet: lower is more uneven")] = 0.5
    classes_per_client: Annotated[int, Ge(1), Doc("pathological")] = 2
    shards_per_client: Annotated[int, Ge(1), Doc("shards")] = 2
    skew: Annotated[
        Literal["linear", "square", "exponential"], Doc("size: how sizes grow with the client")
    ] = "linear"
