"""Membership inference on retrained students: what it trains, what it reports, what it sees."""

import json
from collections.abc import Callable

import numpy as np
import torch

from fedlite.audit.membership import Compression, MembershipAudit, audit_membership
from tests.audit.conftest import World


def audited(world: World, **changes: object) -> MembershipAudit:
    settings: dict[str, object] = {
        "targets": 2,
        "shadows": 4,
        "claimed_epsilon": 8.0,
        "delta": 1e-5,
        "compression": None,
        "control": False,
    }
    return audit_membership(world.retraining, **(settings | changes))  # type: ignore[arg-type]


def test_every_form_is_attacked_and_the_record_is_plain(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("compress.recovery_steps=1", rounds=1)
    trained = []
    found = audited(
        world,
        compression=Compression(
            world.audited.teacher, world.audited.splits.task, world.audited.splits.public
        ),
        control=True,
        on_model=lambda: trained.append(1),
    )
    record = json.loads(json.dumps(found.record()))
    assert len(trained) == 2 * (2 + 4)
    assert set(record["attacks"]) == {"student", "compressed", "control"}
    assert record["attacks"]["student"]["trials"] == 2 * len(world.retraining.candidates.labels)
    assert record["targets"] == 2
    assert record["clients"] == 2
    assert set(record["attacks"]["student"]["tpr"]) == {"0.01", "0.001"}
    assert record["passed"] is True
    assert list(world.retraining.directory.iterdir()) == []


def test_a_bound_above_the_claim_fails_and_the_control_never_does(
    audit_world: Callable[..., World],
) -> None:
    """Students that learn labels by heart, attacked as if they were private."""
    world = memorising(audit_world)
    caught = audited(world, shadows=8, targets=4)
    assert caught.attacks["student"].auc > 0.8
    assert caught.attacks["student"].bound.epsilon > 1
    assert MembershipAudit(1.0, 1e-5, caught.attacks, {}).passed is False
    assert MembershipAudit(None, 1e-5, caught.attacks, {}).passed is None
    as_control = {"control": caught.attacks["student"]}
    assert MembershipAudit(1.0, 1e-5, as_control, {}).passed is True


def memorising(audit_world: Callable[..., World]) -> World:
    """Random labels and many steps without privacy."""
    options = ("student=mlp", "privacy=none", "distill.alpha=1", "federation.local_steps=20")
    world = audit_world(*options, rounds=5, clients=2)
    labels = world.retraining.candidates.labels
    random = np.random.default_rng(0).integers(0, 10, len(labels))
    labels.copy_(torch.from_numpy(random))
    return world


def test_noise_hides_what_the_same_training_without_it_shows(
    audit_world: Callable[..., World],
) -> None:
    options = ("student=mlp", "distill.alpha=1", "federation.local_steps=10", "privacy.epsilon=1")
    world = audit_world(*options, rounds=5, clients=2)
    found = audited(world, shadows=8, targets=4, control=True, claimed_epsilon=1.0)
    assert found.attacks["student"].auc < 0.65
    assert found.attacks["control"].auc > found.attacks["student"].auc + 0.1
    assert found.passed
