"""The options of ``fedlite audit``: what is attacked, and how hard."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from fedlite.base.options import Doc, Options

Part = Literal["dirac", "membership", "inversion"]


@dataclass(frozen=True)
class AuditOptions(Options):
    """What `fedlite audit` attacks, and how hard (docs/audits.md)."""

    parts: Annotated[list[Part], MinLen(1), Doc("which attacks; others keep their results")] = (
        field(default_factory=lambda: ["dirac", "membership", "inversion"])
    )
    canaries: Annotated[
        int, Ge(20), Le(5000), Doc("examples (or clients) made to be noticed, by a coin each")
    ] = 1000
    clients: Annotated[int, Ge(1), Doc("of the reduced cohort in which students are retrained")] = 2
    targets: Annotated[int, Ge(1), Doc("retrained students that are attacked")] = 8
    shadows: Annotated[int, Ge(4), Doc("retrained students that the attacker learns from")] = 32
    compressed: Annotated[
        bool, Doc("compress every retrained student and attack that form too")
    ] = True
    control: Annotated[bool, Doc("attack the same training without privacy, too")] = True
    inversion_steps: Annotated[
        int, Ge(1), Doc("of each search for an example with a given gradient")
    ] = 400
