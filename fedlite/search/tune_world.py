"""Public data as a world of simulated clients whose noise stands to their gradients as in the run.

Everything here takes :class:`~fedlite.data.types.PublicData` and public numbers alone (rule 12).
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedlite.base.errors import UsageError
from fedlite.base.files import write_atomically
from fedlite.data.draws import draw
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public
from fedlite.federation.cohort import participation_rate
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.privacy.options import AggregateTrustOptions, PrivacyOptions
from fedlite.privacy.randomness import derive_seed
from fedlite.search.options import TuneOptions

LEAST_EXAMPLES = 8  # of a simulated client, and of the public part beside them


@dataclass(frozen=True)
class Fold:
    """One division of the public data; ``validation`` judges and is in no training."""

    training: PublicData
    validation: PublicData


@dataclass(frozen=True)
class Clients:
    """How many clients there are, and how many examples each holds on average."""

    count: int
    examples: int


def public_folds(training: PublicData, validation: PublicData, more: int, seed: int) -> list[Fold]:
    """The division that is there, and ``more`` others. No two have a validation example in common.

    Raises:
        TypeError: one of the two is not :class:`PublicData`.
    """
    require_public(training)
    require_public(validation)
    folds = [Fold(training, validation)]
    rng = np.random.default_rng(derive_seed(seed, "tune-folds"))
    size = min(len(validation), len(training) // (more + 1))
    labels = training.labels.numpy()
    pool = np.arange(len(training))
    for _ in range(more):
        judging, pool = draw(pool, size, labels, None, rng)
        others = np.setdiff1d(np.arange(len(training)), judging)
        folds.append(Fold(_joined(_rows(training, others), validation), _rows(training, judging)))
    return folds


def simulated_clients(training: int, real: int, tune: TuneOptions) -> Clients:
    """As many clients as in the run, up to ``tune.max_clients`` and what public data allows.

    Args:
        training: public training examples.
        real: clients of the run.
        tune: the share of the examples that clients hold, and the most clients.

    Raises:
        UsageError: too few public examples.
    """
    held = math.floor(tune.client_fraction * training)
    count = min(real, tune.max_clients or real, held // LEAST_EXAMPLES)
    least = min(real, 2)
    if count < least or training - held < LEAST_EXAMPLES:
        share = min(tune.client_fraction / least, 1 - tune.client_fraction)
        raise UsageError(
            f"dataset.public_size: {training} public training examples are too few to tune on;"
            f" {math.ceil(LEAST_EXAMPLES / share)} or more are needed"
        )
    return Clients(count, held // count)


def write_fold(
    fold: Fold, clients: Clients, task: Task, dataset: DatasetOptions, path: Path
) -> DatasetOptions:
    """Write a fold as a data set of its own, and return the options that read it.

    Its inputs are stored as the model sees them. What clients do not hold is the public part of it,
    its test part the examples that judge.

    Raises:
        FedliteError: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        "inputs_train": fold.training.inputs.numpy(),
        "labels_train": fold.training.labels.numpy(),
        "inputs_test": fold.validation.inputs.numpy(),
        "labels_test": fold.validation.labels.numpy(),
        "class_names": np.array(task.class_names),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    write_atomically(path, write)
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}-public",
        source="npz",
        root=str(path.parent),
        files={"data": path.name},
        keys={key: key for key in arrays},
        layout="channels_first",
        class_names=None,
        public_size=len(fold.training) - clients.count * clients.examples,
        holdout_size=0,
        evaluate_on="test",
    )


def simulated_partition(partition: PartitionOptions) -> PartitionOptions:
    """The run's own way to divide examples, but for natural ids, which public data has lost."""
    if partition.name != "natural":
        return partition
    return dataclasses.replace(partition, name="iid")


def simulated_plan(
    privacy: PrivacyOptions,
    federation: FederationOptions,
    plans: Plans,
    real: Clients,
    simulated: Clients,
) -> tuple[PrivacyOptions, FederationOptions]:
    """The options under which simulated clients train as those of the run would.

    The run's noise was calibrated for its own budget, rounds, sample rate and trust (``plans``).
    Simulated clients hold fewer examples and may be fewer. So they draw examples more often, up to
    all of them, to keep the batch; and whatever is added is scaled such that the noise on the
    average over a cohort has the standard deviation, in units of the clip, that it has in the run:

    - example-level: noise multiplier of one client / (batch x sqrt(cohort));
    - client-level: noise multiplier / cohort.

    The epsilon that such a trial would have means nothing, and its data is public: it is not
    limited, and its randomness follows from the seed.

    Args:
        privacy: of the run, with the options of the trial.
        federation: likewise.
        plans: what the run would spend with them; their clips are not looked at.
        real: the run's clients, of nominal size.
        simulated: those of the trial.
    """
    cohort, fewer = (
        participation_rate(federation, one.count) * one.count for one in (real, simulated)
    )
    batch = privacy.sample_rate * real.examples
    sample_rate = min(1.0, batch / simulated.examples)
    noise_multiplier, client = privacy.noise_multiplier, privacy.client
    if plans.example is not None:
        share = plans.example.client_noise_multiplier
        batches = sample_rate * simulated.examples / plans.example.expected_batch_size
        noise_multiplier = share * batches * math.sqrt(fewer / cohort)
    if plans.client is not None:
        scale = fewer / cohort
        client = dataclasses.replace(
            client,
            epsilon=None,
            noise_multiplier=plans.client.noise_multiplier * scale,
            bit_noise=plans.client.bit_noise * scale if client.adaptive_clip else None,
            accountant="rdp",
        )
    simulated_privacy = dataclasses.replace(
        privacy,
        epsilon=None,
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        expected_examples=simulated.examples,
        accountant="rdp",
        randomness="deterministic",
        ledger_dir=None,
        policy=None,
        aggregate=AggregateTrustOptions(min_cohort=2 if privacy.trust == "aggregate" else None),
        client=client,
    )
    return simulated_privacy, dataclasses.replace(federation, num_clients=simulated.count)


def _rows(data: PublicData, rows: np.ndarray) -> PublicData:
    index = torch.from_numpy(rows)
    return PublicData(data.inputs[index], data.labels[index])


def _joined(*parts: PublicData) -> PublicData:
    return PublicData(
        torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts])
    )
