"""The Flower ServerApp: the rounds, visible in one loop."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedlite.config import Config
from fedlite.errors import FedliteError
from fedlite.federation.aggregation import (
    PlainSum,
    SumProtocol,
    as_reply,
    combine_clipped,
    combine_sum,
)
from fedlite.federation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedlite.federation.cohort import select_cohort
from fedlite.federation.grid import InProcessGrid
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    HELLO,
    TEACHER,
    State,
    TrainRequest,
    check_arrays,
    check_reply,
    count_bytes,
    to_arrays,
)
from fedlite.federation.strategies import (
    aggregate_round,
    build_strategy,
    configure_round,
    restore_strategy,
    strategy_state,
)
from fedlite.files import state_sha256
from fedlite.privacy import Charge, ClientPlan, Ledger, PrivacyPlan, Spending, make_randomness
from fedlite.privacy.ledger import SERVER_LEDGER
from fedlite.records import Evaluation, RoundRecord

log = logging.getLogger(__name__)

WAIT_FOR_NODES_SECONDS = 600


@dataclass
class Federation:
    """What the server needs for all rounds, and what it leaves behind.

    ``plan`` is example-level, ``client_plan`` client-level with the ``server_ledger`` it charges;
    each is None where that unit is not protected. ``evaluate`` sees the averaged student.
    ``frozen`` names the student's arrays that nobody trains: they stay as the server has them,
    whatever a reply says.
    ``sync_ledgers`` flushes what a simulated cohort charged to disk, before the checkpoint.
    ``stopped`` says why the rounds ended before the last one, if they did.
    """

    config: Config
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
    result: State = field(default_factory=dict)
    history: list[RoundRecord] = field(default_factory=list)
    stopped: str = ""
    frozen: frozenset[str] = frozenset()
    sync_ledgers: Callable[[list[int]], None] = lambda cohort: None
    sum_protocol: SumProtocol = field(default_factory=PlainSum)


@dataclass
class Clients:
    """Who is there: node ids by client id, and which teacher each client holds."""

    node_ids: dict[int, int]
    teachers: dict[int, str]


@dataclass
class Outcome:
    """The sorted replies of one round, in client order."""

    trained: list[Message] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    epsilons: dict[int, float] = field(default_factory=dict)


def open_server_ledger(directory: Path, config: Config) -> Ledger:
    """The client-level ledger: what the releases to the outside have spent of all clients."""
    return Ledger(directory / SERVER_LEDGER, f"{config.dataset.name}-clients")


def make_server_app(federation: Federation) -> ServerApp:
    """The ServerApp for one run; its result is left in ``federation``."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_rounds(grid, federation)

    return app


def run_rounds(grid: Grid, federation: Federation) -> None:
    """Run all rounds that the checkpoint does not hold yet.

    Raises:
        FedliteError: every client of a round failed (where the round need not release noise).
    """
    config, plan = federation.config, federation.plan
    strategy = build_strategy(config.federation.strategy)
    state, average = federation.student, federation.student
    epsilons = [0.0] * federation.num_clients if plan else []
    clip = federation.client_plan.clip if federation.client_plan else None
    history: list[RoundRecord] = []
    teacher_sha256 = state_sha256(federation.teacher)
    if federation.checkpoint_path.exists():
        saved = load_checkpoint(federation.checkpoint_path)
        state, average, epsilons = saved.state, saved.average, saved.epsilons
        history, clip = saved.history, saved.clip
        restore_strategy(strategy, saved.strategy)
        if isinstance(grid, InProcessGrid):
            grid.restore_contexts(saved.contexts)
    clients = _meet_clients(grid, federation.num_clients)

    for server_round in range(len(history) + 1, config.federation.rounds + 1):
        started = time.perf_counter()
        spending = _charge_release(federation, server_round)
        if spending is not None and not spending.accepted:
            federation.stopped = f"before round {server_round}: {spending.reason}"
            log.warning("stopped %s", federation.stopped)
            break
        cohort = select_cohort(
            config.federation,
            federation.num_clients,
            config.seed,
            server_round,
            secret=federation.client_plan is not None and config.privacy.randomness == "secure",
        )
        teacher_bytes, without = _send_teacher(
            grid, clients, cohort, federation.teacher, teacher_sha256
        )
        request = TrainRequest.config(federation.run_id, teacher_sha256, plan)
        node_ids = [clients.node_ids[i] for i in cohort if i not in without]
        messages = configure_round(strategy, server_round, state, request, node_ids)
        replies = list(grid.send_and_receive(messages))
        trained = time.perf_counter()

        outcome = _sort_replies(replies, clients, state, quiet=config.privacy.trust == "aggregate")
        outcome.failures += [f"a client could not take the teacher: {r}" for r in without.values()]
        if outcome.failures and len(outcome.failures) == len(cohort):
            reason = f"round {server_round}: every client failed; {outcome.failures[0]}"
            if federation.client_plan is None:
                raise FedliteError(reason)
            log.error("%s", reason)  # ending here would tell on a cohort of one (rule 14)
        clip_used = clip
        release, clip = _release(federation, server_round, state, outcome.trained, clip)
        released = aggregate_round(strategy, server_round, state, release)
        state = {n: state[n] if n in federation.frozen else released[n] for n in state}
        average = _moving_average(average, state, config.federation.ema_decay)
        for client_id, epsilon in outcome.epsilons.items():
            if plan:
                epsilons[client_id] = max(epsilons[client_id], epsilon)
        aggregated = time.perf_counter()

        last = server_round == config.federation.rounds
        due = server_round % config.tracking.evaluate_every == 0
        evaluation = federation.evaluate(average) if due or last else None
        evaluated = time.perf_counter()
        record = RoundRecord(
            round=server_round,
            evaluation=evaluation,
            clients_trained=len(outcome.trained),
            clients_refused=outcome.refusals.total(),
            clients_failed=len(outcome.failures),
            epsilons=list(epsilons),
            bytes_down=teacher_bytes + sum(map(count_bytes, messages)),
            bytes_up=sum(map(count_bytes, replies)),
            seconds={
                "train": trained - started,
                "aggregate": aggregated - trained,
                "evaluate": evaluated - aggregated,
                "checkpoint": 0.0,
                "total": evaluated - started,
            },
            teacher_bytes=teacher_bytes,
            released=bool(release) or plan is None or plan.trust == "local",
            refusals=dict(outcome.refusals),
            client_level_epsilon=spending.epsilon if spending else None,
            clip=clip_used,
        )
        history.append(record)
        federation.sync_ledgers(cohort)
        contexts = grid.dump_contexts() if isinstance(grid, InProcessGrid) else {}
        save_checkpoint(
            federation.checkpoint_path,
            Checkpoint(
                round=server_round,
                state=state,
                average=average,
                strategy=strategy_state(strategy),
                epsilons=epsilons,
                history=history,
                contexts=contexts,
                clip=clip,
            ),
        )
        record.seconds["checkpoint"] = time.perf_counter() - evaluated
        record.seconds["total"] = time.perf_counter() - started
        federation.on_round(record)

    federation.result, federation.history = average, history


def _charge_release(federation: Federation, server_round: int) -> Spending | None:
    """Charge the server's ledger for this round's release, before anybody trains (rule 17)."""
    plan, ledger = federation.client_plan, federation.server_ledger
    if plan is None:
        return None
    if ledger is None:
        raise FedliteError("client-level privacy without a ledger for the server: nothing is asked")
    return ledger.charge(
        Charge(federation.run_id, server_round, *plan.segment),
        budget=plan.epsilon,
        delta=plan.delta,
        accountant=plan.accountant,
        replay=plan.randomness == "deterministic",
    )


def _release(
    federation: Federation,
    server_round: int,
    state: State,
    trained: list[Message],
    clip: float | None,
) -> tuple[list[Message], float | None]:
    """What of a round's replies may go into the next student, and the clip of the next round."""
    plan, client_plan = federation.plan, federation.client_plan
    if client_plan is not None:
        clip = client_plan.clip if clip is None else clip
        randomness = make_randomness(
            client_plan.randomness, federation.config.seed, "release", server_round
        )
        moving = {name: value for name, value in state.items() if name not in federation.frozen}
        moved, clip = combine_clipped(trained, client_plan, moving, clip, randomness)
        return [as_reply({**state, **moved})], clip
    if plan is None or plan.trust == "local":
        return trained, clip
    if len(trained) < plan.min_cohort:
        log.warning(
            "round %d not released: %d clients answered, the noise is made for %d or more",
            server_round,
            len(trained),
            plan.min_cohort,
        )
        return [], clip
    return [as_reply(combine_sum(trained, federation.sum_protocol, state))], clip


def _meet_clients(grid: Grid, num_clients: int) -> Clients:
    """Ask every node who it is; clients are known by their own id from here on."""
    deadline = time.monotonic() + WAIT_FOR_NODES_SECONDS
    while len(node_ids := sorted(grid.get_node_ids())) < num_clients:
        if time.monotonic() > deadline:
            raise FedliteError(f"only {len(node_ids)} of {num_clients} clients connected")
        time.sleep(0.1)
    replies = grid.send_and_receive([Message(RecordDict(), i, HELLO) for i in node_ids])
    clients = Clients(node_ids={}, teachers={})
    for reply in replies:
        if reply.has_error():
            raise FedliteError(f"a client did not start: {reply.error.reason}")
        answer = reply.content.config_records[CONFIG]
        client_id = cast(int, answer["client-id"])
        clients.node_ids[client_id] = reply.metadata.src_node_id
        clients.teachers[client_id] = cast(str, answer.get("teacher-sha256", ""))
    return clients


def _send_teacher(
    grid: Grid, clients: Clients, cohort: list[int], teacher: State, sha256: str
) -> tuple[int, dict[int, str]]:
    """Send the teacher to those of the cohort that lack it.

    Returns:
        the bytes sent, and by client id why a client could not take it.
    """
    lacking = [client_id for client_id in cohort if clients.teachers[client_id] != sha256]
    content = RecordDict({ARRAYS: to_arrays(teacher), CONFIG: ConfigRecord({"sha256": sha256})})
    messages = [Message(content, clients.node_ids[client_id], TEACHER) for client_id in lacking]
    client_ids = {clients.node_ids[client_id]: client_id for client_id in lacking}
    failed: dict[int, str] = {}
    for reply in grid.send_and_receive(messages) if messages else []:
        client_id = client_ids[reply.metadata.src_node_id]
        if reply.has_error():
            failed[client_id] = str(reply.error.reason)
            log.warning("client %d could not take the teacher: %s", client_id, reply.error.reason)
        else:
            clients.teachers[client_id] = sha256
    return sum(map(count_bytes, messages)), failed


def _sort_replies(
    replies: list[Message], clients: Clients, expected: State, *, quiet: bool
) -> Outcome:
    """Check every reply (rule 16) and put the good ones in client order.

    ``quiet`` keeps what is wrong with a single reply's arrays out of log and report (rule 18).
    """
    client_ids = {node_id: client_id for client_id, node_id in clients.node_ids.items()}
    outcome = Outcome()
    for reply in sorted(replies, key=lambda reply: client_ids[reply.metadata.src_node_id]):
        client_id = client_ids[reply.metadata.src_node_id]
        if reply.has_error():
            outcome.failures.append(str(reply.error.reason))
            continue
        try:
            report = check_reply(reply.content)
            outcome.epsilons[client_id] = cast(float, report["epsilon"])
            if report["status"] == "trained":
                check_arrays(reply.content.array_records[ARRAYS], expected)
        except FedliteError as error:
            reason = "the reply did not pass the checks" if quiet else str(error)
            log.warning("client %d rejected: %s", client_id, reason)
            outcome.failures.append(f"client {client_id}: {reason}")
            continue
        if report["status"] == "refused":
            log.info("client %d refused: %s", client_id, report["reason"])
            outcome.refusals[str(report["reason"])] += 1
            continue
        outcome.trained.append(reply)
    return outcome


def _moving_average(average: State, state: State, decay: float) -> State:
    """Exponential average of the released iterates: post-processing, free of privacy cost."""
    if decay == 0:
        return state
    return {name: decay * average[name] + (1 - decay) * value for name, value in state.items()}
