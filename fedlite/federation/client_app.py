"""The Flower ClientApp: charge the ledger, then distil for one round on one client's data."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from fedlite.errors import UsageError
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    State,
    TrainRequest,
    refused_reply,
    to_state,
    trained_reply,
)
from fedlite.federation.node import Node
from fedlite.models.build import load_state
from fedlite.privacy import Charge, PrivacyPlan, make_randomness, refusal, train_steps

TEACHER_RECORD, REPLY_RECORD, REPLY_REPORT = "teacher", "reply-arrays", "reply-report"

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Tell the server who this client is and which teacher it holds."""
    node = Node.of(context)
    answer = ConfigRecord({"client-id": node.client_id})
    if TEACHER_RECORD in context.state:
        answer["teacher-sha256"] = context.state.config_records[TEACHER_RECORD]["sha256"]
    return Message(RecordDict({CONFIG: answer}), reply_to=message)


@app.query("teacher")
def receive_teacher(message: Message, context: Context) -> Message:
    """Check the teacher by its hash and keep it."""
    sha256 = str(message.content.config_records[CONFIG]["sha256"])
    Node.of(context).world.store_teacher(to_state(message.content.array_records[ARRAYS]), sha256)
    context.state[TEACHER_RECORD] = ConfigRecord({"sha256": sha256})
    return Message(RecordDict({CONFIG: ConfigRecord({"sha256": sha256})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one train request: a stored reply, a refusal, or a freshly trained student."""
    identity = _request_identity(message)
    stored = context.state.config_records.get(REPLY_REPORT)
    if stored is not None and stored["request"] == identity:
        arrays = to_state(context.state.array_records[REPLY_RECORD])
        return trained_reply(message, arrays, float(str(stored["epsilon"])))

    node = Node.of(context)
    try:
        request = TrainRequest.parse(message.content)
    except UsageError as error:  # a plan that is not valid in itself
        return refused_reply(message, str(error), epsilon=0.0)
    plan, unit = request.plan, node.world.config.privacy.unit
    examples = len(node.world.client_data(node.client_id))
    if reason := refusal(node.policy, plan, unit, examples):
        return refused_reply(message, reason, epsilon=0.0)

    epsilon = 0.0
    with _one_thread():
        # What can fail without touching private gradients comes before the charge.
        load_state(node.world.student, request.state, where=f"round {request.round}")
        teacher_logits = node.world.teacher_logits(node.client_id, request.teacher_sha256)
        if plan is not None:
            reason, epsilon = _charge(node, request, plan)
            if reason:
                return refused_reply(message, reason, epsilon)
        state = _distil(node, request, teacher_logits)

    reply = trained_reply(message, state, epsilon)
    # Under aggregate trust a repeated request is a second sum: it is trained and charged again, for
    # two sums of the same replies but one would bare that one.
    if plan is None or plan.trust == "local":
        context.state[REPLY_RECORD] = reply.content.array_records[ARRAYS]
        context.state[REPLY_REPORT] = ConfigRecord({"request": identity, "epsilon": epsilon})
    return reply


def _charge(node: Node, request: TrainRequest, plan: PrivacyPlan) -> tuple[str, float]:
    """Charge the ledger before training; return (reason of refusal or "", epsilon spent)."""
    own = None if plan.trust == "local" else plan.client_noise_multiplier
    try:
        charge = Charge(request.run, request.round, *plan.segment, plan.trust, own)
    except ValueError as error:
        return f"the request's plan is not valid: {error}", 0.0
    spending = node.ledger.charge(
        charge,
        budget=node.policy.budget(plan),
        delta=plan.delta,
        accountant=plan.accountant,
        replay=node.policy.randomness == "deterministic",
    )
    return spending.reason, spending.epsilon


def _distil(node: Node, request: TrainRequest, teacher_logits: Tensor) -> State:
    """Local steps by the request's plan; without one, the same sampled batches without noise."""
    config, plan = node.world.config, request.plan
    data = node.world.client_data(node.client_id)
    student = node.world.student
    module, inputs = node.world.trained_part(node.client_id)
    expected = plan.expected_batch_size if plan else config.privacy.sample_rate * len(data)
    train_steps(
        module,
        node.world.loss,
        inputs,
        data.labels,
        teacher_logits,
        steps=plan.steps if plan else config.federation.local_steps,
        sample_rate=plan.sample_rate if plan else config.privacy.sample_rate,
        expected_batch_size=expected,
        learning_rate=config.federation.learning_rate,
        momentum=config.federation.momentum,
        randomness=make_randomness(
            node.policy.randomness if plan else "deterministic",
            config.seed,
            "local-steps",
            node.client_id,
            request.round,
        ),
        plan=plan,
        after_step=_proximal_step(student, request, config.federation.learning_rate),
    )
    return {name: value.detach().clone() for name, value in student.state_dict().items()}


def _proximal_step(
    student: nn.Module, request: TrainRequest, learning_rate: float
) -> Callable[[nn.Module], None] | None:
    """FedProx' term as its own step towards the received weights: Opacus overwrites gradients, so
    in the loss it would vanish without a word (rule 9).

    After one step it multiplies the noised update by the public constant 1 - learning rate * mu,
    so the sum over a cohort stays what it was up to that factor: also under aggregate trust it is
    post-processing, as long as all clients are sent the same mu (docs/device-policy.md).
    """
    if request.proximal_mu == 0:
        return None

    def pull(_: nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                gap = parameter - request.state[name]
                parameter.sub_(learning_rate * request.proximal_mu * gap)

    return pull


def _request_identity(message: Message) -> str:
    """A hash over the request's round, plan and arrays."""
    digest = hashlib.sha256()
    digest.update(repr(sorted(message.content.config_records[CONFIG].items())).encode())
    for name, array in message.content.array_records[ARRAYS].items():
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
