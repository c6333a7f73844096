"""The rounds of a federation, visible in one loop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.base.tensors import state_sha256
from fedlite.federation.buffered import (
    AtWork,
    account_step,
    ask_idle,
    next_arrivals,
    put_to_work,
    stale_replies,
    updates_of,
)
from fedlite.federation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedlite.federation.client_states import ClientStates, KeptElsewhere
from fedlite.federation.clock import Clock
from fedlite.federation.cohort import over_selected, select_cohort
from fedlite.federation.fleet import Fleet, Visit, end_round
from fedlite.federation.gather import (
    Clients,
    Gathered,
    gather,
    lacking_teacher,
    meet_clients,
    send_teacher,
)
from fedlite.federation.joins import JoinedStudent
from fedlite.federation.messages import State, TrainRequest, arrays_in
from fedlite.federation.options import FederationOptions
from fedlite.federation.release import Released, release
from fedlite.federation.strategy import Strategy
from fedlite.federation.sum_protocol import SUMS, SumProtocol
from fedlite.privacy.charges import Charge
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.ledger import Ledger, Spending
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness, make_randomness

log = logging.getLogger(__name__)


@dataclass
class Federation:
    """What the server needs for all rounds, and what it leaves behind.

    ``plan`` is example-level, ``client_plan`` client-level with the ``server_ledger`` it charges;
    each is None where that unit is not protected. ``evaluate`` sees the averaged student.
    ``secret_cohort`` draws cohorts from secret randomness, as client-level amplification asks.
    ``quiet`` keeps what is wrong with a single reply to itself (rule 18). ``frozen`` names the
    student's arrays that nobody trains: they stay as the server has them, whatever a reply says.
    ``sync_ledgers`` flushes what a simulated cohort charged to disk, before the checkpoint.
    ``fleet`` is what its clients are simulated to be, if anything: who is there, and in time.
    ``until`` is the round after which to stop for now, None for the last, and ``joined`` the
    student that a join with other classes made after some round, from which the rounds go on.
    ``stopped`` says why the rounds ended before the last one, if they did.
    """

    options: FederationOptions
    seed: int
    run_id: str
    num_clients: int
    plan: PrivacyPlan | None
    client_plan: ClientPlan | None
    server_ledger: Ledger | None
    student: State
    teacher: State
    evaluate: Callable[[State], Evaluation]
    on_round: Callable[[RoundRecord], None]
    checkpoint_path: Path
    evaluate_every: int = 1
    secret_cohort: bool = False
    quiet: bool = False
    frozen: frozenset[str] = frozenset()
    sync_ledgers: Callable[[list[int]], None] = lambda cohort: None
    sum_protocol: SumProtocol = field(default_factory=lambda: SUMS.find("plain"))
    fleet: Fleet | None = None
    until: int | None = None
    joined: JoinedStudent | None = None
    result: State = field(default_factory=dict)
    history: list[RoundRecord] = field(default_factory=list)
    stopped: str = ""

    @cached_property
    def teacher_sha256(self) -> str:
        """Of the teacher's state, by which clients know that they hold it."""
        return state_sha256(self.teacher)

    @property
    def asked(self) -> FederationOptions:
        """The options by which a round's clients are drawn."""
        fleet = self.fleet
        return self.options if fleet is None else over_selected(self.options, fleet.options)


@dataclass
class Server:
    """The server between two rounds: all that a checkpoint holds, and nothing else."""

    state: State
    average: State
    strategy: Strategy
    epsilons: list[float]
    history: list[RoundRecord]
    clip: float | None
    working: dict[int, AtWork] = field(default_factory=dict)  # on an asynchronous fleet
    lines: list[bytes] = field(default_factory=list)  # of the history, as checkpoints hold it

    @classmethod
    def start(cls, federation: Federation, clients: ClientStates) -> "Server":
        """As the checkpoint left it, or before round 1."""
        strategy = Strategy(federation.options.strategy)
        if not federation.checkpoint_path.exists():
            epsilons = [0.0] * federation.num_clients if federation.plan else []
            clip = federation.client_plan.clip if federation.client_plan else None
            return cls(federation.student, federation.student, strategy, epsilons, [], clip)
        saved = load_checkpoint(federation.checkpoint_path)
        strategy.restore(saved.strategy)
        clients.restore_contexts(saved.contexts)
        joined = federation.joined
        if joined is not None and joined.round == saved.round:
            saved = replace(saved, state=joined.state, average=joined.state)
        return cls(
            saved.state,
            saved.average,
            strategy,
            saved.epsilons,
            saved.history,
            saved.clip,
            saved.working,
        )

    def save(self, path: Path, contexts: dict[int, bytes]) -> None:
        """Write the checkpoint after the last round in the history."""
        save_checkpoint(
            path,
            Checkpoint(
                round=len(self.history),
                state=self.state,
                average=self.average,
                strategy=self.strategy.state(),
                epsilons=self.epsilons,
                history=self.history,
                contexts=contexts,
                clip=self.clip,
                working=self.working,
            ),
            self.lines,
        )


def run_rounds(grid: Grid, federation: Federation, clients: ClientStates | None = None) -> None:
    """Run all rounds, up to ``until`` where it is given, that the checkpoint does not hold yet.

    Raises:
        FedliteError: every client of a round failed (where the round need not release noise).
    """
    made, kept = federation, clients or KeptElsewhere()
    server = Server.start(made, kept)
    present = kept.present() or meet_clients(grid, made.num_clients)
    for number in range(len(server.history) + 1, (made.until or made.options.rounds) + 1):
        clock = Clock()
        spending = charge_release(made, number)
        if spending is not None and not spending.accepted:
            made.stopped = f"before round {number}: {spending.reason}"
            log.warning("stopped %s", made.stopped)
            break
        cohort, visits = draw_clients(made, server, present, number)
        found = ask_cohort(grid, made, server, present, cohort)
        clock.lap("train")

        refuse_if_all_failed(made, number, found, len(cohort))
        simulated = await_replies(made, server, visits, found)
        clip = server.clip
        released = release(
            list(found.trained.values()),
            server.state,
            plan=made.plan,
            client_plan=made.client_plan,
            clip=clip,
            frozen=made.frozen,
            protocol=made.sum_protocol,
            randomness=release_randomness(made, number),
        )
        advance(server, made, number, released, found.epsilons)
        clock.lap("aggregate")

        due = number % made.evaluate_every == 0 or number == made.options.rounds
        evaluation = made.evaluate(server.average) if due else None
        clock.lap("evaluate")

        record = round_record(server, found, released, spending, evaluation, clip, clock, simulated)
        server.history.append(record)
        made.sync_ledgers(cohort)
        server.save(made.checkpoint_path, kept.dump_contexts())
        clock.lap("checkpoint")
        made.on_round(record)
    made.result, made.history = server.average, server.history


def ask_cohort(
    grid: Grid, federation: Federation, server: Server, present: Clients, cohort: list[int]
) -> Gathered:
    """Send a cohort the teacher where it is lacking and the round's student; gather the replies."""
    made, number = federation, len(server.history) + 1
    sha256 = made.teacher_sha256
    teacher_bytes, without = send_teacher(grid, present, cohort, made.teacher, sha256)
    asked = {present.node_ids[i]: i for i in cohort if i not in without}
    request = TrainRequest.config(made.run_id, sha256, made.plan)
    messages = server.strategy.configure(number, server.state, request, list(asked))
    requests = {asked[message.metadata.dst_node_id]: message for message in messages}
    check = partial(check_student, made.sum_protocol, server.state)
    found = gather(grid, requests, check, quiet=made.quiet)
    found.failures += [f"a client could not take the teacher: {r}" for r in without.values()]
    found.teacher_bytes = teacher_bytes
    return found


def draw_clients(
    federation: Federation, server: Server, present: Clients, number: int
) -> tuple[list[int], list[Visit]]:
    """Whom a round asks, and on a fleet what becomes of them; there, only who is there is asked."""
    made, fleet = federation, federation.fleet
    draw = partial(
        select_cohort, made.asked, made.num_clients, made.seed, number, secret=made.secret_cohort
    )
    if fleet is None:
        return draw(), []
    lacking = frozenset(lacking_teacher(present, list(present.teachers), made.teacher_sha256))
    if fleet.options.asynchronous:
        visits = ask_idle(fleet, number, server.working, lacking)
    else:
        visits = fleet.visits(number, draw(), lacking)
    return [visit.client for visit in visits if visit.there], visits


def await_replies(
    federation: Federation, server: Server, visits: list[Visit], found: Gathered
) -> dict[str, float]:
    """Leave in ``found`` the trained replies that a round on a fleet counts.

    Those that arrive before its simulated end; the others were trained, and charged, in vain. When
    a reply arrives follows from public numbers, and whether a client refuses or fails never from
    its data (rule 13). On an asynchronous fleet those that arrive next, whenever they were asked.

    Returns:
        what the round's record tells of it; nothing without a fleet.
    """
    made, number = federation, len(server.history) + 1
    fleet = made.fleet
    if fleet is None:
        return {}
    before = server.history[-1].simulated["clock_seconds"] if server.history else 0.0
    options = fleet.options
    if not options.asynchronous:
        end = end_round(visits, found.trained, fleet.needed(made.options), options.deadline_s)
        found.trained = {client: found.trained[client] for client in end.counted}
        return fleet.account(number, visits, end, before)
    updates = updates_of(found.trained, server.state)
    working = put_to_work(server.working, number, before, visits, updates)
    arrived = next_arrivals(working, number, before, options.buffer_size)
    server.working = arrived.working
    found.trained = stale_replies(arrived, server.state, options.staleness_power)
    return account_step(visits, updates, arrived, before)


def round_record(
    server: Server,
    found: Gathered,
    released: Released,
    spending: Spending | None,
    evaluation: Evaluation | None,
    clip: float | None,
    clock: Clock,
    simulated: dict[str, float],
) -> RoundRecord:
    """What the operator learns of the round after the last one in the server's history."""
    return RoundRecord(
        round=len(server.history) + 1,
        evaluation=evaluation,
        clients_trained=len(found.trained),
        clients_refused=found.refusals.total(),
        clients_failed=len(found.failures),
        epsilons=list(server.epsilons),
        bytes_down=found.teacher_bytes + found.bytes_down,
        bytes_up=found.bytes_up,
        seconds=clock.seconds,
        teacher_bytes=found.teacher_bytes,
        released=released.complete,
        refusals=dict(found.refusals),
        client_level_epsilon=spending.epsilon if spending else None,
        clip=clip,
        simulated=simulated,
    )


def check_student(protocol: SumProtocol, expected: State, reply: Message) -> None:
    """Refuse a reply whose arrays are not a student as the protocol sends it (rule 16).

    Raises:
        FedliteError: the first difference.
    """
    protocol.check(arrays_in(reply.content), expected)


def charge_release(federation: Federation, number: int) -> Spending | None:
    """Charge the server's ledger for this round's release, before anybody trains (rule 17)."""
    plan, ledger = federation.client_plan, federation.server_ledger
    if plan is None:
        return None
    if ledger is None:
        raise FedliteError("client-level privacy without a ledger for the server: nothing is asked")
    return ledger.charge(
        Charge(federation.run_id, number, *plan.segment),
        budget=plan.epsilon,
        delta=plan.delta,
        accountant=plan.accountant,
        replay=plan.randomness == "deterministic",
    )


def refuse_if_all_failed(
    federation: Federation, number: int, found: Gathered, cohort_size: int
) -> None:
    """End the rounds where every client of a cohort failed.

    Not at the client level: ending here would tell on a cohort of one (rule 14).

    Raises:
        FedliteError: gives the first reason.
    """
    if not found.failures or len(found.failures) < cohort_size:
        return
    reason = f"round {number}: every client failed; {found.failures[0]}"
    if federation.client_plan is None:
        raise FedliteError(reason)
    log.error("%s", reason)


def release_randomness(federation: Federation, number: int) -> Randomness:
    """Of the noise on a round's release."""
    plan = federation.client_plan
    mode = plan.randomness if plan else "deterministic"
    return make_randomness(mode, federation.seed, "release", number)


def advance(
    server: Server,
    federation: Federation,
    number: int,
    released: Released,
    epsilons: dict[int, float],
) -> None:
    """Let the strategy move the student by what was released, and the average follow."""
    moved = server.strategy.aggregate(number, server.state, released.replies)
    server.state = {
        name: value if name in federation.frozen else moved[name]
        for name, value in server.state.items()
    }
    server.clip = released.clip
    server.average = moving_average(server.average, server.state, federation.options.ema_decay)
    if federation.plan:
        for client_id, epsilon in epsilons.items():
            server.epsilons[client_id] = max(server.epsilons[client_id], epsilon)


def moving_average(average: State, state: State, decay: float) -> State:
    """Exponential average of the released iterates: post-processing, free of privacy cost."""
    if decay == 0:
        return state
    return {name: decay * average[name] + (1 - decay) * value for name, value in state.items()}
