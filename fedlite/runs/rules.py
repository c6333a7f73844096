"""What options of different groups must not be together; one line each says what would be right."""

from dataclasses import fields

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.data.options import DatasetOptions
from fedlite.federation.class_options import KEY, check_classes
from fedlite.federation.options import (
    LARGEST_PULL,
    EngineOptions,
    FederationOptions,
    FleetOptions,
)
from fedlite.privacy.options import PrivacyOptions


def check_together(
    dataset: DatasetOptions,
    privacy: PrivacyOptions,
    federation: FederationOptions,
) -> None:
    """Check the options of a run against each other.

    Raises:
        UsageError: names the key, the value found and what would be right.
    """
    if privacy.private or privacy.trust != "local":
        check_units(privacy, federation)
        if privacy.ledger_dir and privacy.randomness == "deterministic":
            raise UsageError(
                "privacy.ledger_dir: deterministic runs are not private and must not mix with"
                " ledgers that outlive them; leave it out or use privacy.randomness=secure"
            )
    strategy = federation.strategy
    if strategy.name in ("fedavg", "fedprox") and strategy.learning_rate != 1:
        raise UsageError(
            f"federation.strategy.learning_rate={strategy.learning_rate:g}: {strategy.name} has no"
            " server learning rate; use federation=fedavgm"
        )
    pull = federation.learning_rate * strategy.proximal_mu
    if strategy.name == "fedprox" and pull > LARGEST_PULL:
        raise UsageError(
            f"federation.strategy.proximal_mu={strategy.proximal_mu:g}: times"
            f" federation.learning_rate it is {pull:g}; use {LARGEST_PULL:g} or less"
        )
    if privacy.augmentations and not dataset.augment.changes:
        raise UsageError(
            f"privacy.augmentations={privacy.augmentations}: dataset.augment changes nothing; give"
            " dataset.augment.shift, flip or noise, or privacy.augmentations=0"
        )
    if dataset.evaluate_on == "holdout" and dataset.holdout_size == 0:
        raise UsageError("dataset.evaluate_on=holdout: needs dataset.holdout_size of 1 or more")


def check_units(privacy: PrivacyOptions, federation: FederationOptions) -> None:
    """Settings of the units of privacy that contradict each other (rules 15 and 19)."""
    if privacy.example_level and privacy.epsilon is None and privacy.noise_multiplier is None:
        raise UsageError("privacy: give privacy.epsilon or privacy.noise_multiplier")
    client = privacy.client
    if privacy.client_level and client.epsilon is None and client.noise_multiplier is None:
        raise UsageError("privacy: give privacy.client.epsilon or privacy.client.noise_multiplier")
    if privacy.client_level and federation.fraction < 1 and federation.sampling != "bernoulli":
        raise UsageError(
            f"federation.sampling={federation.sampling}: client-level privacy is accounted for"
            " clients that are drawn one by one; use federation.sampling=bernoulli"
        )
    if privacy.trust == "local":
        return
    if not privacy.example_level:
        raise UsageError(
            f"privacy.trust=aggregate: is about example-level noise, which privacy.unit="
            f"{privacy.unit} has none of; use privacy.unit=example or both"
        )
    if privacy.client_level:
        raise UsageError(
            "privacy.unit=both with privacy.trust=aggregate: client-level clipping looks at single"
            " updates, which aggregate trust says nobody sees; use privacy.trust=local"
        )
    if federation.local_steps > 1:
        raise UsageError(
            f"federation.local_steps={federation.local_steps}: privacy.trust=aggregate is valid for"
            " one local step a round only (privacy rule 19); use federation.local_steps=1"
        )


def check_fleet(
    fleet: FleetOptions, privacy: PrivacyOptions, federation: FederationOptions
) -> None:
    """Check the options of a fleet against those of privacy and federation (docs/fleets.md).

    Raises:
        UsageError: names the key, the value found and what would be right.
    """
    if not fleet.simulated:
        default = FleetOptions()
        for name in (field.name for field in fields(fleet)):
            if (value := getattr(fleet, name)) != getattr(default, name):
                raise UsageError(
                    f"fleet.{name}={value}: there is no fleet; use fleet=phones, or another file of"
                    " conf/fleet"
                )
        return
    if fleet.over_selection > 1 and federation.fraction >= 1:
        raise UsageError(
            f"fleet.over_selection={fleet.over_selection:g}: every client is asked already; use"
            " federation.fraction below 1"
        )
    if fleet.asynchronous:
        check_asynchronous(fleet, privacy, federation)
    if not privacy.client_level:
        return
    if fleet.over_selection > 1:
        raise UsageError(
            f"fleet.over_selection={fleet.over_selection:g}: at the client level a fast client"
            " would push another out of the sum, and both move it; raise federation.fraction"
            " instead"
        )
    if privacy.expected_examples is None:
        raise UsageError(
            "privacy.expected_examples: simulated times decide who counts and must not follow from"
            " the clients' data at the client level; give it"
        )


def check_asynchronous(
    fleet: FleetOptions, privacy: PrivacyOptions, federation: FederationOptions
) -> None:
    """Asynchronous rounds rest on replies that are noised enough alone (docs/fleets.md)."""
    if privacy.client_level or privacy.trust != "local":
        raise UsageError(
            f"fleet.asynchronous=true: replies are used one by one, as they arrive; privacy.unit="
            f"{privacy.unit} with privacy.trust={privacy.trust} needs whole cohorts; use"
            " privacy=example"
        )
    if fleet.over_selection > 1 or fleet.deadline_s is not None:
        raise UsageError(
            "fleet.asynchronous=true: a round ends with its buffer; leave out"
            " fleet.over_selection and fleet.deadline_s"
        )
    if federation.fraction < 1:
        raise UsageError(
            f"federation.fraction={federation.fraction:g}: fleet.asynchronous=true keeps"
            f" fleet.concurrency={fleet.concurrency} clients at work instead; use"
            " federation.fraction=1"
        )
    if fleet.buffer_size > fleet.concurrency:
        raise UsageError(
            f"fleet.buffer_size={fleet.buffer_size}: more than fleet.concurrency="
            f"{fleet.concurrency} clients are never at work; use that many or fewer"
        )


def check_student_classes(
    federation: FederationOptions,
    privacy: PrivacyOptions,
    fleet: FleetOptions,
    engine: EngineOptions,
) -> None:
    """Check classes of students, and what there cannot be beside them (docs/classes.md).

    Raises:
        UsageError: names the key, the value found and what would be right.
    """
    name, classes = federation.class_name, federation.classes
    check_classes(classes)
    if name and name not in classes:
        hint = did_you_mean(name, [*classes]) or f"; {KEY} has {', '.join(classes) or 'none'}"
        raise UsageError(f"federation.class_name={name}: no such class{hint}")
    if federation.compare and not classes:
        raise UsageError(f"federation.compare=true: compares classes of students; give {KEY}")
    if federation.compare and not federation.join.every:
        raise UsageError(
            "federation.compare=true: each class is alone already (federation.join.every=0)"
        )
    if not classes:
        return
    if fleet.simulated:
        raise UsageError(f"fleet: the time of {KEY} is not simulated; use fleet=none")
    if engine.name == "ray":
        raise UsageError(f"engine=ray: {KEY} run with engine=inprocess alone")
    if privacy.ledger_dir:
        raise UsageError(
            f"privacy.ledger_dir: {KEY} keep their ledgers in the run directory, each class its"
            " own; leave it out"
        )
