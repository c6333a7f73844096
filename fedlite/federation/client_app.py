"""The Flower ClientApp: charge the ledger, then distil for one round on one client's data."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedlite.federation.client import Client, number_of
from fedlite.federation.messages import (
    CONFIG,
    TEACHER_RECORD,
    TrainRequest,
    arrays_in,
    config_in,
    refused_reply,
    to_state,
    trained_reply,
)
from fedlite.federation.sealed import SealedClientApp
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.workbench import store_teacher
from fedlite.models.build import load_state
from fedlite.privacy.charges import Charge
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import make_randomness

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
    client = Client.of(context)
    sha256 = str(config_in(message.content)["sha256"])
    store_teacher(client.folder, to_state(arrays_in(message.content)), sha256)
    context.state[TEACHER_RECORD] = ConfigRecord({"sha256": sha256})
    return Message(RecordDict({CONFIG: ConfigRecord({"sha256": sha256})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one train request: a refusal, a stored reply, or a freshly trained student.

    The rules come first. What is refused in words follows from rules, request and ledger alone: no
    text of an exception is ever a reason. Whatever the data hold, the reply is the noised student.
    """
    client = Client.of(context)
    request = TrainRequest.parse(message.content)
    plan = request.plan
    if reason := client.refusal(plan):
        return refused_reply(message, reason, epsilon=0.0)

    identity = _request_identity(message)
    if REPLY_REPORT in context.state:
        stored = config_in(context.state, REPLY_REPORT)
        if stored["request"] == identity:
            arrays = arrays_in(context.state, REPLY_RECORD)
            return trained_reply(message, arrays, float(str(stored["epsilon"])))

    epsilon = 0.0
    with _one_thread():
        # What can fail without touching private gradients comes before the charge.
        data, bench = client.data, client.workbench
        load_state(bench.student, request.state, where=f"round {request.round}")
        if plan is not None:
            bench.check_weights()
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
        state = train_client(bench.student, part, work, plan, randomness)

    reply = trained_reply(message, protocol.seal(state, message), epsilon)
    # Under aggregate trust a repeated request is a second sum: it is trained and charged again, for
    # two sums of the same replies but one would bare that one.
    if plan is None or plan.trust == "local":
        context.state[REPLY_RECORD] = arrays_in(reply.content)
        context.state[REPLY_REPORT] = ConfigRecord({"request": identity, "epsilon": epsilon})
    return reply


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


def _request_identity(message: Message) -> str:
    """A hash over the request's round, plan and arrays."""
    digest = hashlib.sha256()
    digest.update(repr(sorted(config_in(message.content).items())).encode())
    for name, array in arrays_in(message.content).items():
        digest.update(name.encode() + array.data)
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on the number of threads: one, on every engine, keeps the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
