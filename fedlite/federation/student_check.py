"""What a student, its teacher and its loss must prove before anything is charged.

Server and clients both ask, on made-up examples: the server before it trains anything, a client
because no server can be taken at its word.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedlite.base.errors import FedliteError, UsageError
from fedlite.data.types import ClientData, Task
from fedlite.distill.answers import INPUT, Answers, answers_of, taught_answers
from fedlite.distill.loss import Loss, check_separable, check_taps
from fedlite.federation.messages import State, check_arrays, to_arrays, to_state
from fedlite.models.build import FixedFrontEnd, frozen_names, load_state
from fedlite.privacy.clipping import ExampleLosses
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.gradient_probe import (
    TOLERANCE,
    check_gradients,
    check_large_batches,
    check_mixing,
    explained,
)
from fedlite.privacy.layers import described
from fedlite.privacy.options import DEFAULT_GRADIENTS, Protects
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.probe import Asked, check_many_rows, check_private_model, check_rows
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.privacy.steps import train_steps
from fedlite.privacy.trials import (
    FEW,
    MANY,
    REDRAWN_SEEDS,
    SEEDS,
    made_up_few,
    made_up_labels,
    made_up_many,
    made_up_many_labels,
    parts_of_many,
    randomised,
    redrawn,
)

PartOf = Callable[[nn.Module, Loss, ClientData, Answers], tuple[nn.Module, ExampleLosses, int]]
"""(student, loss, examples, teacher's answers) -> what training moves, its losses, how many."""

_STEP = PrivacyPlan(  # of the trial: clipping, and noise that moves every weight
    epsilon=1.0,
    delta=1e-5,
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    sample_rate=1.0,
    expected_examples=1,
    steps=1,
    max_participations=1,
    accountant="rdp",
    randomness="deterministic",
)


def check_student(
    student: nn.Module,
    teacher: nn.Module,
    loss: Loss,
    task: Task,
    unit: Protects,
    part_of: PartOf,
    loss_option: str = "distill.loss",
) -> None:
    """Refuse what could not be trained, sent or clipped as the run's unit of privacy asks.

    Always: the loss finds what it taps, and the student's state can travel. Under any unit: no
    example touches another's answer, and no buffer moves. At the example level: the loss and the
    teacher look at single examples, every engine's sums are those of one gradient after another,
    and a step moves every trained parameter.

    Args:
        student, teacher: with any weights; left as they are.
        loss: of the run.
        task: what they see.
        unit: what is protected.
        part_of: how the run divides a student into what training moves and what is fixed.
        loss_option: what names the loss in the error.

    Raises:
        UsageError: names the layer, array or option, and what to use instead.
    """
    check_taps(loss, student, teacher)
    check_travels(student)
    if not unit.private:
        return
    check_private_model(student, task)
    if not unit.example_level:
        return
    _check_tapped_layers(student, loss, loss_option)
    asked_of_teacher = asked_of(loss.teacher_taps)
    check_rows(
        teacher,
        task,
        "teacher",
        modes=(False,),
        asked=asked_of_teacher,
        seeds=SEEDS[:1],
        redrawn_seeds=REDRAWN_SEEDS[:2],
    )
    check_many_rows(teacher, task, "teacher", asked_of_teacher)
    if isinstance(student, FixedFrontEnd):
        check_rows(student, task, "student", modes=(False,), asked=asked_of_front_end)
        check_many_rows(student, task, "student", asked_of_front_end)
    check_separable(loss, loss_option, _answers_like(student, teacher, loss, task))
    _check_training(student, randomised(teacher, SEEDS[0]), loss, task, part_of)


def _check_training(
    student: nn.Module, teacher: nn.Module, loss: Loss, task: Task, part_of: PartOf
) -> None:
    """The gradients of what training moves, near the student's weights, at weights drawn anew, and
    in large batches; and a step."""
    classes = task.num_classes

    def part(
        trial: nn.Module, inputs: Tensor, labels: Tensor
    ) -> tuple[nn.Module, ExampleLosses, int]:
        shown = inputs[:FEW]  # to the teacher: what it answers to a few serves for many
        taught = taught_answers(teacher, shown, loss.teacher_taps)
        taught = taught[torch.arange(len(inputs)) % len(shown)]
        with explained(trial):
            return part_of(trial, loss, ClientData(-1, inputs, labels), taught)

    with torch.random.fork_rng(devices=[]):
        for seed in SEEDS:
            trial, inputs = randomised(student, seed), made_up_few(task, seed)
            module, losses, count = part(trial, inputs, made_up_labels(len(inputs), classes, seed))
            with explained(module):
                check_gradients(module, losses, count, seed)
        _check_step(student, trial, module, losses, count)
        for seed in REDRAWN_SEEDS:
            inputs, labels = made_up_many(task, 3), made_up_labels(3, classes, seed)
            module, losses, count = part(redrawn(student, seed), inputs, labels)
            with explained(module):
                check_mixing(module, losses, count)
        inputs, labels = made_up_many(task, MANY), made_up_many_labels(MANY, classes)
        module, losses, count = part(randomised(student, SEEDS[0]), inputs, labels)
        with explained(module):
            check_large_batches(
                module, losses, count, parts_of_many()[1:], ENGINES[DEFAULT_GRADIENTS]
            )


def asked_of(taps: Sequence[str]) -> Asked:
    """Of a network: its logits, and the features that a loss taps."""

    def asked(model: nn.Module, inputs: Tensor) -> Sequence[Tensor]:
        found = answers_of(model, inputs, taps)
        return (found.logits, *found.features.values())

    return asked


def asked_of_front_end(student: nn.Module, inputs: Tensor) -> Sequence[Tensor]:
    """Of a student with a fixed front end in evaluation: its features, which clients train on, its
    head's answers to them and its own.

    Raises:
        UsageError: the last two differ.
    """
    assert isinstance(student, FixedFrontEnd)
    features = student.features(inputs)
    by_head, answers = student.head(features), student(inputs)
    if by_head.shape != answers.shape or not torch.allclose(
        by_head, answers, TOLERANCE, 1e-5, equal_nan=True
    ):
        raise UsageError(
            f"student: head(features(inputs)) answers {tuple(by_head.shape)} for {len(inputs)}"
            f" examples, other than forward's {tuple(answers.shape)}; with fixed_front_end=True let"
            " forward be head(features(inputs)), with one row of features for each example"
        )
    return features, by_head, answers


def _answers_like(
    student: nn.Module, teacher: nn.Module, loss: Loss, task: Task
) -> tuple[Answers, Answers]:
    """What both answer to two made-up examples, for its shapes."""
    inputs = made_up_many(task, 2)
    with explained(student):
        own = taught_answers(student, inputs, loss.student_taps)
    with explained(teacher, "teacher"):
        return own, taught_answers(teacher, inputs, loss.teacher_taps)


def _check_tapped_layers(student: nn.Module, loss: Loss, option: str) -> None:
    """Refuse a tap on a layer with trained parameters of its own: Opacus sees what the next layer
    asks of it, and not what the loss does."""
    for name in (tap for tap in loss.student_taps if not tap.endswith(INPUT)):
        layer = student.get_submodule(name)
        if any(one.requires_grad for one in layer.parameters(recurse=False)):
            raise UsageError(
                f"{option}: taps the student's {described(name, layer)}, which has trained"
                f" parameters of its own; tap a layer after it, such as its activation or an"
                f" nn.Identity, or what a layer is given, as in '{name}{INPUT}'"
            )


def check_travels(student: nn.Module) -> None:
    """Refuse a state that no reply can bring: it would be charged, and then rejected (rule 16).

    Raises:
        UsageError: names the first array, and what would be right.
    """
    state = student.state_dict()
    if not any(value.requires_grad for value in student.parameters()):
        raise UsageError("student: has no parameter to train")
    for name, value in state.items():
        where = f"student: '{name}' in its state"
        kept_out = "give what never changes as a buffer with persistent=False"
        if is_lazy(value):
            raise UsageError(f"{where} has no shape yet: no example reaches its layer; remove it")
        if not isinstance(value, Tensor):
            raise UsageError(f"{where} is no array; {kept_out}")
        if value.dtype not in (torch.float32, torch.float64):
            layer = student.get_submodule(name.rpartition(".")[0])
            raise UsageError(
                f"{where} ({type(layer).__name__}) is {str(value.dtype).removeprefix('torch.')},"
                f" and only float32 and float64 arrays travel; {_float_instead(layer, kept_out)}"
            )
        if value.ndim == 0:
            raise UsageError(f"{where} is a single number; give it the shape (1,)")
        if not torch.isfinite(value).all():
            raise UsageError(f"{where} is not finite; {kept_out}")
    try:
        check_arrays(to_arrays(state), state)
        load_state(student, to_state(to_arrays(state)), where="student")
    except FedliteError as error:
        raise UsageError(f"student: its state cannot travel: {error}") from error


def _float_instead(layer: nn.Module, kept_out: str) -> str:
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return "use nn.GroupNorm, or the same norm with track_running_stats=False"
    return kept_out


def _check_step(
    student: nn.Module, trial: nn.Module, module: nn.Module, losses: ExampleLosses, count: int
) -> None:
    """A step must move every trained parameter, and the student that a server then holds."""
    frozen, before = frozen_names(student), _copy_of(trial.state_dict())
    for sample_rate in (1.0, 1e-9):  # of all, and of nobody
        with explained(module):
            train_steps(
                module,
                losses,
                count,
                steps=1,
                sample_rate=sample_rate,
                expected_batch_size=1.0,
                learning_rate=1.0,
                momentum=0.0,
                randomness=DeterministicRandomness(0),
                plan=_STEP,
            )
    reply = to_arrays(trial.state_dict())
    check_arrays(reply, student.state_dict())
    sent = to_state(reply)
    merged = {name: before[name] if name in frozen else sent[name] for name in sent}
    server = copy.deepcopy(trial)
    load_state(server, merged, where="student")
    for name, value in server.state_dict().items():
        if name not in frozen and torch.equal(value, before[name]):
            raise UsageError(
                f"student: a step does not move '{name}', which is trained; let it take part in"
                " what training moves, or freeze it with requires_grad_(False)"
            )
        if not torch.equal(value, sent[name]):
            raise UsageError(
                f"student: '{name}' does not arrive as it was sent; give every array of the state"
                " one name and one value"
            )


def _copy_of(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}
