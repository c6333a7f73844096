"""The options of the searches that are commands: ``search-student`` and ``tune``."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen

from fedlite.base.errors import UsageError
from fedlite.base.options import Doc, Options
from fedlite.compress.options import TargetOptions
from fedlite.models.options import BLOCKS


@dataclass(frozen=True)
class StudentSearchOptions(Options):
    """What `fedlite search-student` may build, and how it judges it (docs/search.md)."""

    trials: Annotated[int, Ge(1), Doc("students tried, at most")] = 30
    population: Annotated[int, Ge(2), Doc("of one generation of NSGA-II")] = 10
    max_seconds: Annotated[float | None, Gt(0), Doc("of all trials; null: no limit")] = None
    blocks: Annotated[list[Annotated[str, BLOCKS]], MinLen(1), Doc("of a stage")] = field(
        default_factory=lambda: ["plain", "inverted_residual", "channel_shuffle"]
    )
    widths: Annotated[list[Annotated[int, Ge(4), Le(1024)]], MinLen(1), Doc("channels")] = field(
        default_factory=lambda: [8, 16, 24, 32, 48, 64]
    )
    depths: Annotated[list[Annotated[int, Ge(1), Le(20)]], MinLen(1), Doc("blocks in a stage")] = (
        field(default_factory=lambda: [1, 2, 3])
    )
    kernel_sizes: Annotated[list[Annotated[int, Ge(1), Le(11)]], MinLen(1), Doc("odd")] = field(
        default_factory=lambda: [3, 5]
    )
    stages: Annotated[list[Annotated[int, Ge(1), Le(6)]], MinLen(1), Doc("of a student")] = field(
        default_factory=lambda: [2, 3]
    )
    steps: Annotated[int, Ge(1), Doc("batches of public distillation that score one student")] = 400
    max_accuracy_drop: Annotated[
        float, Ge(0), Le(1), Doc("the smallest student this close to the most accurate one wins")
    ] = 0.01
    target: TargetOptions = field(default_factory=TargetOptions)


Factors = list[Annotated[float, Gt(0), Le(100)]]


@dataclass(frozen=True)
class TuneOptions(Options):
    """What `fedlite tune` may choose, and how much public data and time it takes."""

    trials: Annotated[int, Ge(1), Doc("federations tried, at most, with the one set by hand")] = 20
    population: Annotated[int, Ge(2), Doc("of one generation of NSGA-II")] = 6
    max_seconds: Annotated[float | None, Gt(0), Doc("of all trials; null: no limit")] = None
    confirmations: Annotated[
        int, Ge(1), Le(4), Doc("public parts on which the best trial meets the hand-set options")
    ] = 3
    client_fraction: Annotated[
        float, Gt(0), Lt(1), Doc("public training share that simulated clients hold")
    ] = 0.5
    max_clients: Annotated[
        int | None, Ge(2), Doc("simulated clients, at most; null: as many as the run has")
    ] = 10
    learning_rate_factors: Annotated[
        Factors, MinLen(1), Doc("of the learning rate that is set by hand")
    ] = field(default_factory=lambda: [0.1, 0.25, 0.5, 1.0, 2.0, 4.0])
    clip_factors: Annotated[Factors, MinLen(1), Doc("of the clip norm that is set by hand")] = (
        field(default_factory=lambda: [0.02, 0.1, 0.25, 0.5, 1.0, 2.0])
    )
    sample_rate_factors: Annotated[
        Factors, MinLen(1), Doc("of the sample rate that is set by hand")
    ] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    rounds_factors: Annotated[Factors, MinLen(1), Doc("of the rounds that are set by hand")] = (
        field(default_factory=lambda: [0.5, 1.0, 1.5])
    )
    momentums: Annotated[
        list[Annotated[float, Ge(0), Lt(1)]], MinLen(1), Doc("the server's, and the clients'")
    ] = field(default_factory=lambda: [0.0, 0.5, 0.9])
    local_steps: Annotated[
        list[Annotated[int, Ge(1), Le(1000)]], MinLen(1), Doc("of a round, under local trust")
    ] = field(default_factory=lambda: [1, 2, 4])


def check_student_search(options: StudentSearchOptions) -> None:
    """Refuse kernels that have no middle.

    Raises:
        UsageError: names the option and what would be right.
    """
    if even := [size for size in options.kernel_sizes if size % 2 == 0]:
        raise UsageError(f"search_student.kernel_sizes: {even[0]} is even; kernels must be odd")
