"""The options of the federation: clients, rounds, local steps, strategy, classes; fleet, engine."""

import os
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator

from fedlite.base.named import Named
from fedlite.base.options import LATER, NEUTRAL, Doc, Options
from fedlite.distill.options import JoinOptions
from fedlite.federation.class_options import StudentClass

LARGEST_LEARNING_RATE = 1e6  # beyond, noise alone can leave single precision
LARGEST_PULL = 2.0  # learning rate times proximal mu; beyond, each step throws the weights further

STRATEGIES = Named("federation.strategy.name", "fedlite.federation.strategies", "STRATEGY")


@dataclass(frozen=True)
class StrategyOptions(Options):
    """The server's aggregation: a Flower strategy by name and its settings."""

    name: Annotated[str, STRATEGIES, Doc("a Flower strategy")] = "fedavg"
    learning_rate: Annotated[float, Gt(0), Doc("the server's")] = 1.0
    momentum: Annotated[float, Ge(0), Lt(1), Doc("fedavgm")] = 0.0
    beta_1: Annotated[float, Doc("fedadam")] = 0.9
    beta_2: Annotated[float, Doc("fedadam")] = 0.99
    tau: Annotated[float, Doc("fedadam")] = 1e-3
    proximal_mu: Annotated[float, Ge(0), Doc("fedprox")] = 0.0


@dataclass(frozen=True)
class FederationOptions(Options):
    """Clients, rounds, sampling of clients and the local steps of one round."""

    num_clients: Annotated[
        int | None, Ge(1), Doc("simulated clients; null: as many as a natural partition has")
    ] = 20
    rounds: Annotated[int, Ge(1), Doc("of the federation")] = 30
    fraction: Annotated[float, Gt(0), Le(1), Doc("share of the clients asked in each round")] = 1.0
    sampling: Annotated[Literal["fixed", "bernoulli"], Doc("how a round's clients are drawn")] = (
        "fixed"
    )
    max_participations: Annotated[
        int | None, Ge(1), Doc("of a client; null: derived from rounds, fraction and sampling")
    ] = None
    local_steps: Annotated[int, Ge(1), Doc("DP-SGD steps of a client in a round")] = 1
    learning_rate: Annotated[
        float, Gt(0), Le(LARGEST_LEARNING_RATE), Doc("of a client's local steps")
    ] = 0.2
    momentum: Annotated[float, Ge(0), Lt(1), Doc("of a client's local steps")] = 0.0
    ema_decay: Annotated[
        float, Ge(0), Lt(1), Doc("exponential average of the server's iterates; 0: off")
    ] = 0.8
    keep: Annotated[
        Literal["best", "last"],
        Doc("student that ships. best: the better on public validation data; last: the federated"),
    ] = "best"
    strategy: StrategyOptions = field(default_factory=StrategyOptions)
    classes: Annotated[
        dict[str, StudentClass],
        LATER,
        Doc("of clients with students of their own, by name (docs/classes.md); none: all have one"),
    ] = field(default_factory=dict)
    class_name: Annotated[
        str, LATER, Doc("of classes, the one that this run is: by itself, its clients alone")
    ] = ""
    compare: Annotated[
        bool, NEUTRAL, Doc("with classes: run each of them alone as well, on ledgers of its own")
    ] = False
    join: Annotated[JoinOptions, LATER] = field(default_factory=JoinOptions)


@dataclass(frozen=True)
class DeviceClass(Options):
    """A kind of device, as a fleet simulates it (docs/fleets.md). Every value is public.

    ``gflops`` is what training sustains, not the peak. ``availability`` is the probability that a
    client is there when a round asks it, ``dropout`` that it then leaves before its reply arrives.
    """

    gflops: Annotated[float, Gt(0), Doc("10^9 FLOP a second that training sustains")]
    downlink_mbps: Annotated[float, Gt(0), Doc("10^6 bits a second towards the client")]
    uplink_mbps: Annotated[float, Gt(0), Doc("10^6 bits a second towards the server")]
    compute_watts: Annotated[float, Ge(0), Doc("while it computes, above idle")]
    radio_watts: Annotated[float, Ge(0), Doc("while it sends or receives, above idle")]
    share: Annotated[float, Gt(0), Doc("of the clients, relative to the other classes")] = 1.0
    availability: Annotated[float, Gt(0), Le(1), Doc("probability of being there when asked")] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1), Doc("probability of leaving in mid-round")] = 0.0


@dataclass(frozen=True)
class FleetOptions(Options):
    """Devices that a simulation imagines its clients to be, and how rounds end there."""

    classes: Annotated[
        dict[str, DeviceClass],
        Doc("of devices, by name (docs/fleets.md); none: no time is simulated"),
    ] = field(default_factory=dict)
    overhead_s: Annotated[
        float, Ge(0), Doc("seconds of a visit that are neither work nor transfer: polling, waking")
    ] = 3.0
    spread: Annotated[
        float, Ge(0), Le(2), Doc("of times in a class: standard deviation of their logarithm")
    ] = 0.25
    over_selection: Annotated[
        float, Ge(1), Le(100), Doc("asked for each reply that is needed; the first ones count")
    ] = 1.0
    deadline_s: Annotated[
        float | None, Gt(0), Doc("simulated seconds after which a round ends; null: never")
    ] = None

    asynchronous: Annotated[
        bool, Doc("clients stay at work while the server moves on (FedBuff); local trust only")
    ] = False
    buffer_size: Annotated[int, Ge(1), Doc("asynchronous: replies of a round")] = 10
    concurrency: Annotated[int, Ge(1), Doc("asynchronous: clients at work at a time")] = 20
    staleness_power: Annotated[
        float, Ge(0), Le(10), Doc("asynchronous: a reply n rounds late weighs (1 + n)^-this")
    ] = 0.5

    @property
    def simulated(self) -> bool:
        """Whether there is a fleet at all."""
        return bool(self.classes)


@dataclass(frozen=True)
class EngineOptions(Options):
    """Where clients run: in this process and its workers, or on Flower's Ray runtime."""

    name: Annotated[Literal["inprocess", "ray"], NEUTRAL, Doc("ray: Flower's own runtime")] = (
        "inprocess"
    )
    num_workers: Annotated[
        int,
        BeforeValidator(lambda given: usable_cores() if given == "auto" else given),
        Ge(0),
        Le(256),
        NEUTRAL,
        Doc("processes for the clients; 0: this one (ray: a core); auto: a core each"),
    ] = 0


def usable_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
