"""The options of distillation: ``teacher``, ``distill`` and its warm start, joins of classes."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from fedlite.base.cache import cache_folder
from fedlite.base.named import Named
from fedlite.base.options import LATER, NEUTRAL, PATH, Doc, Options
from fedlite.models.options import ScaledModelOptions

LOSSES = Named("distill.loss", "fedlite.distill.losses", "build")

ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True)
class TeacherOptions(ScaledModelOptions):
    """The teacher: loaded from ``checkpoint`` or trained on public data with early stopping."""

    checkpoint: Annotated[
        str | None,
        PATH,
        Doc("a state dict (.safetensors, torch.save), or a folder of Hugging Face for transformer"),
    ] = None
    fine_tune: Annotated[
        Literal["none", "head", "all"],
        LATER,
        Doc("what public data trains of a checkpoint; all: the head 100 times as fast as the rest"),
    ] = "none"
    cache_dir: Annotated[
        str | None,
        PATH,
        NEUTRAL,
        Doc("trained teachers and public students (default: FEDLITE_CACHE); null: no cache"),
    ] = field(default_factory=cache_folder)
    epochs: Annotated[int, Ge(1), Doc("at most")] = 40
    patience: Annotated[int, Ge(1), Doc("epochs without a better public validation loss")] = 15
    batch_size: Annotated[int, Ge(1), Doc("examples in a batch")] = 64
    learning_rate: Annotated[float, Gt(0), Doc("of AdamW, at the first step")] = 2e-3
    weight_decay: Annotated[float, Ge(0), Doc("of AdamW")] = 1e-2
    label_smoothing: Annotated[float, Ge(0), Lt(1), Doc("share of the labels' weight")] = 0.05
    class_weights: Annotated[
        ClassWeights, LATER, Doc("balanced: rare classes weigh more, by the public labels")
    ] = "none"


@dataclass(frozen=True)
class WarmStartOptions(Options):
    """Public distillation of the student before round 1; costs no privacy."""

    enabled: Annotated[bool, Doc("false: round 1 starts from random weights")] = True
    epochs: Annotated[int, Ge(1), Doc("passes over the public examples")] = 60
    batch_size: Annotated[int, Ge(1), Doc("examples in a batch")] = 32
    learning_rate: Annotated[float, Gt(0), Doc("of AdamW, at the first step")] = 3e-3
    weight_decay: Annotated[float, Ge(0), Doc("of AdamW")] = 1e-3


@dataclass(frozen=True)
class LossOptions(Options):
    """The distillation loss: ``alpha * CE + (1 - alpha) * T^2 * KL`` (Hinton et al. 2015), or one
    that looks inside student and teacher too."""

    loss: Annotated[str, LOSSES, Doc("how the student is taught; relational never under DP")] = (
        "soft"
    )
    alpha: Annotated[float, Ge(0), Le(1), Doc("weight of the labels against the teacher")] = 0.8
    temperature: Annotated[float, Gt(0), Doc("of the softmax that is taught")] = 2.0
    weight: Annotated[
        float | None, LATER, Ge(0), Doc("of what a loss adds to soft; null: the loss's own")
    ] = None
    student_layer: Annotated[
        str | None,
        LATER,
        Doc("where attention, hints or relations look, NAME or NAME:input; null: found"),
    ] = None
    teacher_layer: Annotated[str | None, LATER, Doc("the same of the teacher")] = None


@dataclass(frozen=True)
class DistillOptions(LossOptions):
    """How the student is taught, on public data before round 1 and on private data after."""

    class_weights: Annotated[
        ClassWeights,
        LATER,
        Doc("of the student's loss, on private data too; by the public labels"),
    ] = "none"
    word_vectors: Annotated[
        Literal["random", "teacher"],
        LATER,
        Doc("what a student of texts begins with; teacher: principal components of its vectors"),
    ] = "random"
    warm_start: WarmStartOptions = field(default_factory=WarmStartOptions)


@dataclass(frozen=True)
class JoinOptions(Options):
    """How classes learn from each other, on public data alone (Lin et al. 2020, FedDF)."""

    every: Annotated[int, Ge(0), Doc("rounds from one join to the next; 0: each class alone")] = 5
    steps: Annotated[int, Ge(1), Doc("public batches that teach a student in one join")] = 100
    batch_size: Annotated[int, Ge(1), Doc("examples in a batch")] = 64
    learning_rate: Annotated[float, Gt(0), Doc("of AdamW, at the first step")] = 1e-3


@dataclass(frozen=True)
class CascadeOptions(Options):
    """When the student on the device asks the teacher on a server (docs/cascade.md)."""

    share: Annotated[
        float, Ge(0), Le(1), LATER, Doc("of inputs that may be sent, by public data, at most")
    ] = 0.1
    accuracy: Annotated[
        float | None, Gt(0), Le(1), LATER, Doc("wished for; the smallest share that reaches it")
    ] = None
    round_trip_ms: Annotated[
        float, Ge(0), LATER, Doc("to the server and back, in the report's estimate")
    ] = 50.0
