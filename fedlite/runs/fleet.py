"""A run's fleet: what its clients' work costs, from its networks and its nominal batch."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from fedlite.data.types import Task
from fedlite.distill.loss import build_loss
from fedlite.distill.taps import Between
from fedlite.federation.buffered import (
    AtWork,
    account_step,
    ask_idle,
    next_arrivals,
    put_to_work,
)
from fedlite.federation.cohort import over_selected, select_cohort
from fedlite.federation.fleet import Fleet, Work, end_round, visit_joules
from fedlite.federation.messages import State
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.models.build import FixedFrontEnd, build_model
from fedlite.models.cost import forward_flops, state_bytes
from fedlite.report.sections import DeviceEntry
from fedlite.runs.config import Config

TRAINING = 3  # times the forward pass: the backward pass counts twice as much


def build_fleet(config: Config, plans: Plans, task: Task, sizes: Sequence[int]) -> Fleet | None:
    """The fleet that ``config`` asks for; None if it asks for none.

    Args:
        config: of the run.
        plans: whose nominal examples and hidden cohort the fleet keeps to.
        task: that the networks are built for.
        sizes: examples of each client; only their number counts, and their average where nobody
            gave a nominal one (:func:`fedlite.runs.derived.derived_constants`).
    """
    if not config.fleet.simulated:
        return None
    examples = (
        plans.example.expected_examples if plans.example else config.privacy.expected_examples
    )
    client = plans.client
    hidden = client is not None and client.participation_rate < 1
    return Fleet(
        options=config.fleet,
        seed=config.seed,
        num_clients=len(sizes),
        work=client_work(config, task, examples or sum(sizes) // len(sizes)),
        hidden_rate=client.participation_rate if client and hidden else None,
    )


def device_entries(fleet: Fleet) -> dict[str, DeviceEntry]:
    """The classes of a fleet by name: how many clients are of each, and its nominal visit."""
    clients = Counter(fleet.class_names)
    found: dict[str, DeviceEntry] = {}
    for name, device in fleet.options.classes.items():
        seconds = fleet.seconds(device)
        found[name] = {
            "clients": clients[name],
            "download_seconds": seconds.download,
            "compute_seconds": seconds.compute,
            "upload_seconds": seconds.upload,
            "overhead_seconds": seconds.overhead,
            "first_seconds": fleet.seconds(device, first=True).total,
            "joules": visit_joules(device, seconds),
        }
    return found


class Foreseen(NamedTuple):
    """What every round will tell as ``simulated``, and how often the busiest client will be asked
    and there (None where the cohorts are a secret)."""

    rounds: list[dict[str, float]]
    most_visits: int | None


def foresee_rounds(fleet: Fleet, federation: FederationOptions) -> Foreseen:
    """The rounds of a run in which no client refuses or fails.

    Nothing is run: who is drawn, there and in time follows from public numbers.
    """
    options, asked = fleet.options, over_selected(federation, fleet.options)
    everybody = range(fleet.num_clients)
    lacking, clock, rounds = set(everybody), 0.0, list[dict[str, float]]()
    working: dict[int, AtWork] = {}
    reached = Counter[int]()
    for number in range(1, federation.rounds + 1):
        if options.asynchronous:
            visits = ask_idle(fleet, number, working, lacking)
            nothing: dict[int, State] = {client: {} for client in everybody}
            begun = put_to_work(working, number, clock, visits, nothing)
            arrived = next_arrivals(begun, number, clock, options.buffer_size)
            working = arrived.working
            rounds.append(account_step(visits, everybody, arrived, clock))
        else:
            cohort = select_cohort(asked, fleet.num_clients, fleet.seed, number)
            visits = fleet.visits(number, cohort, lacking)
            end = end_round(visits, everybody, fleet.needed(federation), options.deadline_s)
            rounds.append(fleet.account(number, visits, end, clock))
        there = {visit.client for visit in visits if visit.there}
        reached.update(there)
        lacking -= there
        clock = rounds[-1]["clock_seconds"]
    hidden = fleet.hidden_rate is not None
    return Foreseen(rounds, None if hidden else max(reached.values(), default=0))


def client_work(config: Config, task: Task, examples: int) -> Work:
    """What a visit asks of a device: ``federation.local_steps`` over batches of the nominal size.

    Args:
        config: of the run.
        task: that the networks are built for.
        examples: nominal number of a client.
    """
    student = build_model(config.student, task, config.seed)
    teacher = build_model(config.teacher, task, seed=0)
    loss = build_loss(config.distill, between=Between(student, teacher, task.blank(2)))
    copies = config.privacy.augmentations
    trained, frozen = _split_flops(student, task, whole=bool(loss.student_taps or copies))
    steps = max(copies, 1) * config.federation.local_steps * config.privacy.sample_rate * examples
    return Work(
        flops=steps * TRAINING * trained,
        bytes_down=state_bytes(student),
        bytes_up=state_bytes(student),
        first_flops=examples * (forward_flops(teacher, task.blank(1)) + frozen),
        first_bytes_down=state_bytes(teacher),
    )


def _split_flops(student: nn.Module, task: Task, *, whole: bool) -> tuple[float, float]:
    """Forward FLOP of what training moves, and of a fixed front end, whose features a client works
    out once unless training runs the ``whole`` student."""
    everything = forward_flops(student, task.blank(1))
    if not isinstance(student, FixedFrontEnd) or whole:
        return everything, 0.0
    head = forward_flops(student.head, student.eval().features(task.blank(1)))
    return head, everything - head
