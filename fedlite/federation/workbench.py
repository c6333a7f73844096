"""What training needs on a client beside its data: networks, the loss, the teacher it received.

Clients that share a process share one workbench, and what it has worked out for each of them: the
teacher is asked once about a client's examples, and features that nobody trains are computed once.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from re import fullmatch
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from fedlite.base.compute import client_device, device_of
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.tensors import load_tensors, save_tensors, state_sha256
from fedlite.data.augment import Copies
from fedlite.data.types import ClientData
from fedlite.distill.answers import (
    ANSWERS_AT_ONCE,
    Answers,
    front_end_features,
    in_channels_last,
    taught_answers,
)
from fedlite.distill.loss import Loss, TaughtExamples, build_loss, check_taps
from fedlite.distill.taps import Between
from fedlite.federation.client_options import ClientOptions
from fedlite.federation.messages import State
from fedlite.federation.student_check import asked_of, asked_of_front_end, check_student
from fedlite.federation.sum_protocol import SUMS, SumProtocol
from fedlite.models.build import FixedFrontEnd, build_model, frozen_names, load_state
from fedlite.privacy.probe import check_rows_here, forward_alone
from fedlite.privacy.trials import made_up, parts_of_made_up

log = logging.getLogger(__name__)

FEATURE_BATCH = 256  # examples at a time through a fixed front end

_Made = TypeVar("_Made")
_Kept = dict[tuple[str, int], tuple[ClientData, _Made]]
"""By a hash and a client: what was made of which examples."""


class TrainedPart(NamedTuple):
    """The module that training moves, its loss on a client's examples, and how many those are."""

    module: nn.Module
    losses: TaughtExamples
    num_examples: int


def features_of(student: FixedFrontEnd, data: ClientData) -> Tensor:
    """What the front end makes of a client's examples, in eval mode; where there are none, nothing
    is made."""
    if len(data) == 0:
        return data.inputs
    return front_end_features(student, data.inputs, FEATURE_BATCH)


def trained_part(
    student: nn.Module,
    loss: Loss,
    data: ClientData,
    taught: Answers,
    features: Callable[[FixedFrontEnd, ClientData], Tensor] = features_of,
    copies: Copies | None = None,
) -> TrainedPart:
    """What training moves, and its loss on a client's examples, or on ``copies`` of each.

    That is the student on the examples themselves, or the head of a student with a fixed front end
    on its ``features``, unless the loss taps the student or sees copies.
    """
    module, inputs = student, data.inputs
    if isinstance(student, FixedFrontEnd) and not loss.student_taps and copies is None:
        module, inputs = student.head, features(student, data)
    losses = TaughtExamples(loss, inputs, data.labels, taught, copies)
    return TrainedPart(module, losses, len(data))


@dataclass
class Workbench:
    """The networks of a run, in this process, and what they are given, where the student is.

    ``folder`` is where received teachers are kept, by their hash (:func:`store_teacher`).
    """

    options: ClientOptions
    folder: Path
    student: nn.Module
    loss: Loss
    _teachers: dict[str, nn.Module] = field(default_factory=dict)
    _placed: _Kept[ClientData] = field(default_factory=dict)
    _answers: _Kept[Answers] = field(default_factory=dict)
    _features: _Kept[Tensor] = field(default_factory=dict)
    _tried: State = field(default_factory=dict)  # the student's weights that were tried last

    @property
    def device(self) -> torch.device:
        """Where networks compute."""
        return device_of(self.student)

    @cached_property
    def sum_protocol(self) -> SumProtocol:
        """What the student is sealed by."""
        protocol: SumProtocol = SUMS.find(self.options.sum_protocol)
        return protocol

    def check_weights(self) -> None:
        """Refuse to train at the student's weights where one example touches another's answer.

        A server may send any: they are tried on made-up examples before anything is charged, once
        for all clients of this process. Whatever is drawn for it leaves the generators as they
        were.

        Raises:
            UsageError: names the effect, or the layer that fails.
        """
        state = self.student.state_dict()
        if self._tried and all(torch.equal(self._tried[name], state[name]) for name in state):
            return
        inputs, parts = made_up(self.options.task, seed=0), parts_of_made_up(seed=0)
        student, inputs = self.student, inputs.to(self.device)
        check_rows_here(student.train(), inputs, "student", forward_alone, parts)
        if isinstance(student, FixedFrontEnd):
            check_rows_here(student.eval(), inputs, "student", asked_of_front_end, parts)
        self._tried = {name: value.clone() for name, value in state.items()}

    def teacher_answers(self, data: ClientData, sha256: str) -> Answers:
        """The teacher's answers on a client's examples, asked once for these examples; where there
        are none, nobody is asked. A teacher that cannot be used fails either way."""

        def ask() -> Answers:
            teacher = self._teacher(sha256)
            if len(data) == 0:
                nobody = torch.empty((0, self.options.task.num_classes), device=self.device)
                return Answers(nobody)
            return taught_answers(teacher, self._here(data).inputs, self.loss.teacher_taps)

        return _once(self._answers, sha256, data, ask)

    def ask_teacher(self, clients: Sequence[ClientData], sha256: str) -> None:
        """Have :meth:`teacher_answers` at hand for clients of few examples, from passes over all of
        theirs, in which batches are full: the same but for rounding.

        Where that fails, each is asked about by itself, and whoever fails then fails alone.
        """
        few = [
            data
            for data in clients
            if 0 < len(data) < ANSWERS_AT_ONCE and _known(self._answers, sha256, data) is None
        ]
        if len(few) < 2:
            return
        try:
            inputs = torch.cat([self._here(data).inputs for data in few])
            taught = taught_answers(self._teacher(sha256), inputs, self.loss.teacher_taps)
        except Exception as error:
            log.info("the teacher is asked client by client", exc_info=error)
            return
        places = torch.arange(len(inputs), device=self.device)
        parts = torch.split(places, [len(data) for data in few])
        for data, rows in zip(few, parts, strict=True):
            self._answers[sha256, data.client_id] = (data, taught[rows])

    def trained_part(self, data: ClientData, taught: Answers) -> TrainedPart:
        """:func:`trained_part` of the student, with features computed once for these examples (and
        anew if the server sends another front end)."""
        here, copies = self._here(data), self.options.copies
        return trained_part(self.student, self.loss, here, taught, self._features_of, copies)

    def _here(self, data: ClientData) -> ClientData:
        """A client's examples where networks compute."""

        def move() -> ClientData:
            inputs, labels = data.inputs.to(self.device), data.labels.to(self.device)
            return replace(data, inputs=inputs, labels=labels)

        return data if self.device.type == "cpu" else _once(self._placed, "", data, move)

    def _features_of(self, student: FixedFrontEnd, data: ClientData) -> Tensor:
        state = self.student.state_dict()
        fixed = {name: state[name] for name in sorted(frozen_names(self.student))}
        return _once(self._features, state_sha256(fixed), data, lambda: features_of(student, data))

    def _teacher(self, sha256: str) -> nn.Module:
        if sha256 not in self._teachers:
            state: State = load_tensors(_teacher_path(self.folder, sha256))
            task = self.options.task
            teacher = build_model(self.options.teacher, task, seed=0)
            load_state(teacher, state, where="teacher received")
            if state_sha256(teacher.state_dict()) != sha256:
                raise FedliteError("teacher: the stored copy does not have its hash")
            check_taps(self.loss, self.student, teacher)
            teacher.eval().requires_grad_(requires_grad=False)
            if self.options.example_level:
                inputs, asked = made_up(task, seed=0), asked_of(self.loss.teacher_taps)
                check_rows_here(teacher, inputs, "teacher", asked, parts_of_made_up(seed=0))
            self._teachers[sha256] = in_channels_last(teacher.to(self.device), task.blank(2))
        return self._teachers[sha256]


def store_teacher(folder: Path, state: State, sha256: str) -> None:
    """Keep a received teacher in ``folder``, by its hash.

    Raises:
        FedliteError: its content does not have the announced hash.
    """
    if state_sha256(state) != sha256:
        raise FedliteError("teacher: the received arrays do not have the announced hash")
    if not _teacher_path(folder, sha256).is_file():
        save_tensors(_teacher_path(folder, sha256), state)


def _teacher_path(folder: Path, sha256: str) -> Path:
    """Where a teacher lies.

    Raises:
        FedliteError: the server sent something else than a hash, such as a path.
    """
    if not fullmatch("[0-9a-f]{64}", sha256):
        raise FedliteError("teacher: the request does not name it by a SHA-256")
    return folder / f"teacher-{sha256}.pt"


def _known(kept: _Kept[_Made], sha256: str, data: ClientData) -> _Made | None:
    """What was made of these very examples: a device may exchange its own."""
    found = kept.get((sha256, data.client_id))
    return None if found is None or found[0] is not data else found[1]


def _once(kept: _Kept[_Made], sha256: str, data: ClientData, make: Callable[[], _Made]) -> _Made:
    """What was made of these very examples, now or before."""
    made = _known(kept, sha256, data)
    if made is None:
        made = make()
        kept[sha256, data.client_id] = (data, made)
    return made


_proven_here: set[str] = set()  # options
_proven_elsewhere: set[str] = set()


def proven_options() -> frozenset[str]:
    """The options of workbenches that were opened here: for :func:`take_as_proven` in a worker."""
    return frozenset(_proven_here)


def take_as_proven(options: Iterable[str]) -> None:
    """Open workbenches of these options without proofs, which the owner of this process has."""
    _proven_elsewhere.update(options)


@dataclass
class _Benches:
    """Workbenches by options, folder and device, the one that was used last at the end."""

    most: int = 2
    benches: dict[tuple[str, Path, str], Workbench] = field(default_factory=dict)


_kept = _Benches()


@contextmanager
def room_for(runs: int) -> Iterator[None]:
    """Within, this process keeps the workbenches of so many runs whose clients take turns."""
    before, _kept.most = _kept.most, max(_kept.most, runs)
    try:
        yield
    finally:
        _kept.most = before


def open_workbench(options_json: str, folder: Path, device: str = "cpu") -> Workbench:
    """The workbench of a run in this process, made once, for networks on ``device``.

    What student, teacher and loss must prove, they prove on the processor, unless they did in the
    process that this one works for (:func:`take_as_proven`).

    Raises:
        UsageError: a network or loss that cannot be built, or that no private training may use.
    """
    key, benches = (options_json, folder, device), _kept.benches
    bench = benches.pop(key) if key in benches else _make_workbench(*key)
    benches[key] = bench
    while len(benches) > _kept.most:
        del benches[next(iter(benches))]
    return bench


def _make_workbench(options_json: str, folder: Path, device: str) -> Workbench:
    options = ClientOptions.from_json(options_json)
    task = options.task
    student = build_model(options.student, task, seed=options.seed)
    teacher = build_model(options.teacher, task, seed=0)
    between = Between(student, teacher, task.blank(2))
    loss = build_loss(options.loss, options.class_weights, between)
    loss_option = f"distill.loss={options.loss.loss}"
    if options.copies and loss.teacher_taps:
        raise UsageError(
            f"privacy.augmentations={options.augmentations}: {loss_option} compares places of the"
            " teacher's picture with the student's, which copies move; use 0, or distill=soft"
        )
    if options_json not in _proven_elsewhere:
        part = partial(trained_part, copies=options.trial_copies)
        check_student(student, teacher, loss, task, options, part, loss_option)
    _proven_here.add(options_json)
    return Workbench(options, folder, student.to(client_device(device)), loss)
