"""The Flower ClientApp: charge the ledger, then distil for one round on one client's data."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedlite.data.types import ClientData
from fedlite.federation.client import Client, number_of
from fedlite.federation.messages import (
    CONFIG,
    TEACHER,
    TEACHER_RECORD,
    TRAIN,
    State,
    TrainRequest,
    arrays_in,
    config_in,
    refused_reply,
    to_state,
    trained_reply,
)
from fedlite.federation.sealed import SealedClientApp, Work, answer, held
from fedlite.federation.sum_protocol import SumProtocol
from fedlite.federation.training import LocalWork, train_client, train_cohort
from fedlite.federation.workbench import TrainedPart, Workbench, store_teacher
from fedlite.models.build import load_state
from fedlite.privacy.charges import Charge
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness, SecureRandomness, make_randomness

REPLY_RECORD, REPLY_REPORT = "reply-arrays", "reply-report"

app = SealedClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Tell the server who this client is and which teacher it holds."""
    answer = ConfigRecord({"client-id": number_of(context.node_config)})
    if TEACHER_RECORD in context.state:
        answer["teacher-sha256"] = config_in(context.state, TEACHER_RECORD)["sha256"]
    return Message(RecordDict({CONFIG: answer}), reply_to=message)


@app.query("teacher")
def receive_teacher(message: Message, context: Context) -> Message:
    """Check the teacher by its hash and keep it."""
    return _receive_teacher(message, context, set())


@app.cohort(TEACHER)
def receive_teacher_together(work: Sequence[Work]) -> list[Message]:
    """Take the teachers of clients that share this process, each as :func:`receive_teacher` does:
    what they were all sent is checked once for every folder that it is kept in."""
    checked: set[tuple[int, Path]] = set()
    receive = partial(_receive_teacher, checked=checked)
    return [answer(receive, message, context) for message, context in work]


def _receive_teacher(message: Message, context: Context, checked: set[tuple[int, Path]]) -> Message:
    client = Client.of(context)
    sha256 = str(config_in(message.content)["sha256"])
    sent = (id(message.content), client.folder)
    if sent not in checked:
        store_teacher(client.folder, to_state(arrays_in(message.content)), sha256)
        checked.add(sent)
    context.state[TEACHER_RECORD] = ConfigRecord({"sha256": sha256})
    return Message(RecordDict({CONFIG: ConfigRecord({"sha256": sha256})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one train request: a refusal, a stored reply, or a freshly trained student.

    The rules come first. What is refused in words follows from rules, request and ledger alone: no
    text of an exception is ever a reason. Whatever the data hold, the reply is the noised student.
    """
    with _one_thread():
        admitted = _admit(message, context, _Asked(message))
        if isinstance(admitted, Message):
            return admitted
        job = admitted.begin(message, context)
        return job if isinstance(job, Message) else job.answer_alone()


@app.cohort(TRAIN)
def train_together(work: Sequence[Work]) -> list[Message]:
    """Answer the train requests of clients that share this process, each as :func:`train` does.

    Clients that were sent the same are trained in one step, where they may be.
    """
    replies: dict[int, Message] = {}
    same: dict[int, list[int]] = {}
    for place, (message, _) in enumerate(work):
        same.setdefault(id(message.content), []).append(place)
    with _one_thread():
        for places in same.values():
            asked = _Asked(work[places[0]][0])
            admit = partial(_admit, asked=asked)
            found = {place: answer(admit, *work[place]) for place in places}
            admitted = {i: one for i, one in found.items() if isinstance(one, _Admitted)}
            _ask_teacher(admitted.values())
            jobs = {i: answer(one.begin, *work[i]) for i, one in admitted.items()}
            replies |= {i: one for i, one in (found | jobs).items() if isinstance(one, Message)}
            ready = {i: job for i, job in jobs.items() if isinstance(job, _Job)}
            joint = {i: job for i, job in ready.items() if job.bench is asked.bench and job.joins}
            replies |= _train_joint(joint) if len(joint) > 1 else {}
            alone = {i: job for i, job in ready.items() if i not in replies}
            replies |= {i: answer(job.answer_anew, *work[i]) for i, job in alone.items()}
    return [replies[place] for place in range(len(work))]


class _Asked:
    """What a train message asks, read once for all messages of the same content."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self.bench: Workbench | None = None  # which holds the request's weights

    @cached_property
    def request(self) -> TrainRequest:
        """The request."""
        return TrainRequest.parse(self._message.content)

    @cached_property
    def identity(self) -> str:
        """A hash over the request's round, plan and arrays."""
        content, digest = self._message.content, hashlib.sha256()
        digest.update(repr(sorted(config_in(content).items())).encode())
        for name, array in arrays_in(content).items():
            digest.update(name.encode() + array.data)
        return digest.hexdigest()

    def put_on(self, bench: Workbench) -> None:
        """Load the request's weights into the bench's student, and try them, once."""
        if self.bench is not bench:
            load_state(bench.student, self.request.state, where=f"round {self.request.round}")
            if self.request.plan is not None:
                bench.check_weights()
            self.bench = bench

    def put_back_on(self, bench: Workbench) -> None:
        """Give the bench's student the weights that :meth:`put_on` loaded once more."""
        with torch.no_grad():
            for name, value in bench.student.state_dict().items():
                value.copy_(self.request.state[name])


@dataclass(frozen=True)
class _Job:
    """The training that answers a request: allowed, read, and charged."""

    message: Message
    context: Context
    asked: _Asked
    bench: Workbench
    part: TrainedPart
    work: LocalWork
    randomness: Randomness
    protocol: SumProtocol
    epsilon: float

    @property
    def joins(self) -> bool:
        """Whether it may be done together with others: private, one step, whose noise is secret,
        so that nobody counts on its bits, by the engine that gains from it."""
        return (
            self.asked.request.plan is not None
            and self.work.steps == 1
            and self.work.gradients == "bookkeeping"
            and isinstance(self.randomness, SecureRandomness)
        )

    def answer_alone(self) -> Message:
        """Train the bench's student, which holds the request's weights, and answer."""
        plan = self.asked.request.plan
        return self.reply(
            train_client(self.bench.student, self.part, self.work, plan, self.randomness)
        )

    def answer_anew(self, message: Message, context: Context) -> Message:
        """:meth:`answer_alone`, whatever weights the student has now."""
        self.asked.put_back_on(self.bench)
        return self.answer_alone()

    def reply(self, state: State) -> Message:
        """Answer with the trained student."""
        reply = trained_reply(self.message, self.protocol.seal(state, self.message), self.epsilon)
        # Under aggregate trust a repeated request is a second sum: it is trained and charged again,
        # for two sums of the same replies but one would bare that one.
        plan = self.asked.request.plan
        if plan is None or plan.trust == "local":
            self.context.state[REPLY_RECORD] = arrays_in(reply.content)
            self.context.state[REPLY_REPORT] = ConfigRecord(
                {"request": self.asked.identity, "epsilon": self.epsilon}
            )
        return reply


@dataclass(frozen=True)
class _Admitted:
    """A client that a request may train: its rules allow it, its examples are read, and its bench
    holds the request's weights. Nothing is charged."""

    client: Client
    asked: _Asked
    data: ClientData
    bench: Workbench

    @property
    def secret(self) -> bool:
        """Whether its noise is, so that nobody counts on the bits of its reply."""
        return self.asked.request.plan is not None and self.client.policy.randomness == "secure"

    def begin(self, message: Message, context: Context) -> _Job | Message:
        """All else that comes before training, the charge last; or the answer, where it is not
        trained. What can fail without touching private gradients comes before the charge."""
        client, request, data, bench = self.client, self.asked.request, self.data, self.bench
        plan, epsilon = request.plan, 0.0
        part = bench.trained_part(data, bench.teacher_answers(data, request.teacher_sha256))
        work = LocalWork.of(bench.options, plan, len(data), request.proximal_mu)
        protocol = bench.sum_protocol
        if plan is not None:
            reason, epsilon = _charge(client, request, plan)
            if reason:
                return refused_reply(message, reason, epsilon)
        randomness = make_randomness(
            client.policy.randomness if plan else "deterministic",
            bench.options.seed,
            "local-steps",
            client.client_id,
            request.round,
        )
        return _Job(message, context, self.asked, bench, part, work, randomness, protocol, epsilon)


def _admit(message: Message, context: Context, asked: _Asked) -> _Admitted | Message:
    """What a client's rules say of a request, first; or the answer, where it is not trained."""
    client = Client.of(context)
    request = asked.request
    if reason := client.refusal(request.plan):
        return refused_reply(message, reason, epsilon=0.0)

    if REPLY_REPORT in context.state:
        stored = config_in(context.state, REPLY_REPORT)
        if stored["request"] == asked.identity:
            arrays = arrays_in(context.state, REPLY_RECORD)
            return trained_reply(message, arrays, float(str(stored["epsilon"])))

    data, bench = client.data, client.workbench
    asked.put_on(bench)
    return _Admitted(client, asked, data, bench)


def _ask_teacher(admitted: Iterable[_Admitted]) -> None:
    """Let the teacher look at the examples of several clients at once, where no bit hangs on it."""
    at_bench: dict[int, list[_Admitted]] = {}
    for one in admitted:
        if one.secret:
            at_bench.setdefault(id(one.bench), []).append(one)
    for ones in at_bench.values():
        sha256 = ones[0].asked.request.teacher_sha256
        ones[0].bench.ask_teacher([one.data for one in ones], sha256)


def _train_joint(jobs: Mapping[int, _Job]) -> dict[int, Message]:
    """Answer several jobs at one bench, which holds their request's weights, by one step."""
    first = next(iter(jobs.values()))
    plan = first.asked.request.plan
    assert plan is not None
    parts = [job.part for job in jobs.values()]
    draws = [job.randomness for job in jobs.values()]
    with ExitStack() as stack:
        training = train_cohort(first.bench.student, parts, first.work, plan, draws)
        state_of = held(partial(stack.enter_context, training))

        def reply(message: Message, context: Context, number: int, job: _Job) -> Message:
            return job.reply(state_of()(number))

        return {
            place: answer(partial(reply, number=number, job=job), job.message, job.context)
            for number, (place, job) in enumerate(jobs.items())
        }


def _charge(client: Client, request: TrainRequest, plan: PrivacyPlan) -> tuple[str, float]:
    """Charge the ledger before training; return (reason of refusal or "", epsilon spent)."""
    own = None if plan.trust == "local" else plan.client_noise_multiplier
    spending = client.ledger.charge(
        Charge(request.run, request.round, *plan.segment, plan.trust, own),
        budget=client.policy.budget(plan),
        delta=plan.delta,
        accountant=plan.accountant,
        replay=client.policy.randomness == "deterministic",
    )
    return spending.reason, spending.epsilon


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on the number of threads: one, on every engine, keeps the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
