"""Membership inference on students that were retrained with coin-flip membership.

A finished run has no random non-members, so the audit trains its own: targets, whose members were
drawn by fair coins, and shadows, from which the attacker learns. All of them go through the real
training, and through the real compression where the compressed student is audited too.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor, nn

from fedlite.audit.error_rate import error_of_bound
from fedlite.audit.lira import Attack, Floats, Members, attack, balanced_members, confidence
from fedlite.audit.retrain import Retraining
from fedlite.audit.scratch import quiet_flower
from fedlite.compress.shrink.shrinker import Shrinker
from fedlite.data.types import PublicData, Task
from fedlite.distill.evaluate import predict_logits
from fedlite.models.build import load_state
from fedlite.privacy.randomness import derive_seed
from fedlite.report.audit_sections import Attacked, MembershipEntry, MembershipSetting
from fedlite.serve.runtime import logits_of, open_runtime

STUDENT: Final = "student"
COMPRESSED: Final = "compressed"
CONTROL: Final = "control"


@dataclass(frozen=True)
class MembershipAudit:
    """The attacks by what they attacked; ``control`` is the same training without privacy.

    ``passed`` is None where nothing was claimed.
    """

    claimed_epsilon: float | None
    delta: float
    attacks: dict[Attacked, Attack]
    facts: MembershipSetting

    @property
    def passed(self) -> bool | None:
        """Whether every lower bound, the control's apart, is at or below the claim."""
        if self.claimed_epsilon is None:
            return None
        audited = [one for name, one in self.attacks.items() if name != CONTROL]
        return all(one.bound.epsilon <= self.claimed_epsilon for one in audited)

    def record(self) -> MembershipEntry:
        """The entry of ``audits.json``."""
        return {
            "claimed_epsilon": self.claimed_epsilon,
            "delta": self.delta,
            **self.facts,
            "attacks": {name: one.record() for name, one in self.attacks.items()},
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Compression:
    """What compressing a retrained student needs: the run's teacher, task and public data."""

    teacher: nn.Module
    task: Task
    public: PublicData


def audit_membership(
    retraining: Retraining,
    *,
    targets: int,
    shadows: int,
    claimed_epsilon: float | None,
    delta: float,
    compression: Compression | None,
    control: bool,
    on_model: Callable[[], None] = lambda: None,
) -> MembershipAudit:
    """Train ``targets`` + ``shadows`` students and attack the targets with LiRA.

    Args:
        retraining: how a student is trained, and on which candidates.
        targets: students to attack; more of them make rates and bound finer.
        shadows: students that the attacker trains, 4 or more.
        claimed_epsilon: of one example at ``delta``; None where nothing is claimed for one.
        delta: at which epsilon is meant.
        compression: audits the compressed students too; None leaves that out.
        control: trains all of them once more without privacy, to show what the attack can do.
        on_model: called after each student.
    """
    seed, candidates = retraining.audited.config.seed, len(retraining.candidates.labels)
    coins = np.random.default_rng(derive_seed(seed, "audit-target-coins"))
    members = np.concatenate(
        [
            coins.random((targets, candidates)) < 0.5,
            balanced_members(shadows, candidates, derive_seed(seed, "audit-shadow-members")),
        ]
    )
    error = error_of_bound(retraining.audited.config)
    seen: dict[Attacked, list[Floats]] = {}
    network = copy.deepcopy(retraining.audited.student)
    with tempfile.TemporaryDirectory(dir=retraining.directory) as folder, quiet_flower():
        scratch = replace(retraining, directory=Path(folder))
        for number, chosen in enumerate(members):
            student = _trained(scratch, network, chosen, number, private=True)
            _keep(seen, STUDENT, predict_logits(student, retraining.candidates.inputs), retraining)
            if compression is not None:
                logits = _compressed_logits(student, retraining, compression, Path(folder))
                _keep(seen, COMPRESSED, logits, retraining)
            on_model()
        for number, chosen in enumerate(members if control else []):
            student = _trained(scratch, network, chosen, number, private=False)
            _keep(seen, CONTROL, predict_logits(student, retraining.candidates.inputs), retraining)
            on_model()
    return MembershipAudit(
        claimed_epsilon,
        delta,
        {
            name: _attack(np.stack(rows), members, targets, delta, error)
            for name, rows in seen.items()
        },
        {
            "candidates": candidates,
            "clients": retraining.candidates.num_clients,
            "targets": targets,
            "shadows": shadows,
        },
    )


def _attack(
    confidences: Floats, members: Members, targets: int, delta: float, error: float
) -> Attack:
    return attack(
        confidences[:targets],
        members[:targets],
        confidences[targets:],
        members[targets:],
        delta,
        confidence=1 - error,
    )


def _trained(
    retraining: Retraining, network: nn.Module, members: Members, number: int, *, private: bool
) -> nn.Module:
    state = retraining.train(members, number, private=private)
    load_state(network, state, where="audited student")
    return network.eval()


def _compressed_logits(
    student: nn.Module, retraining: Retraining, compression: Compression, directory: Path
) -> Tensor:
    """The candidates' logits as the deployed form of ``student`` answers in ONNX Runtime."""
    config = retraining.audited.config
    shrinker = Shrinker(
        student,
        compression.teacher,
        compression.task,
        compression.public,
        config.dataset.augment,
        derive_seed(config.seed, "compress"),
    )
    path = directory / "student.onnx"
    shrinker.export("onnx", path, config.compress)
    return Tensor(logits_of(open_runtime(path), retraining.candidates.inputs.numpy()))


def _keep(
    seen: dict[Attacked, list[Floats]], name: Attacked, logits: Tensor, retraining: Retraining
) -> None:
    labels = retraining.candidates.labels.numpy()
    seen.setdefault(name, []).append(confidence(logits.numpy(), labels))
