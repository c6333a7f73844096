"""The tuning of the federation's options, on public data divided among simulated clients."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import Self

from fedlite.base.errors import UsageError
from fedlite.base.files import write_whole
from fedlite.base.options import deciding
from fedlite.base.paired_scores import Classes
from fedlite.base.tensors import state_sha256
from fedlite.data.options import DatasetOptions
from fedlite.data.splits import Splits, load_splits
from fedlite.distill.evaluate import predict_logits
from fedlite.federation.plans import Plans
from fedlite.privacy.randomness import derive_seed
from fedlite.runs.conf import groups
from fedlite.runs.config import Config, RunOptions, config_from_plain
from fedlite.runs.directory import load_overrides
from fedlite.runs.experiment import experiment_yaml
from fedlite.runs.facts import TuneFacts
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.typed import values_of
from fedlite.search.archive import CSV_FILE, trials_csv
from fedlite.search.trials import Options, by_metric, identity_of
from fedlite.search.tune import describe_tuning, tune_federation
from fedlite.search.tune_space import tune_space
from fedlite.search.tune_world import (
    Clients,
    Fold,
    public_folds,
    simulated_clients,
    simulated_partition,
    simulated_plan,
    write_fold,
)

FOLDER, EXPERIMENT_FILE = "tune", "experiment.yaml"
FEDERATION = ("teacher", "warm_start", "plan", "federate")  # the stages of a trial
NOT_KEPT = ("run", "tune", "engine", "tracking", "audit", "search_student")  # of one command
FREE = "No private example was used and no client's ledger was charged: it spent no epsilon."


@dataclass(frozen=True)
class Trials:
    """Federations of simulated clients on public data, each with the options of a trial.

    ``config`` is the run's, ``real`` its clients and ``simulated`` those that hold public data.
    ``data_sets`` read the folds, ``cache`` keeps their teachers where the run has no cache.
    """

    config: Config
    real: Clients
    simulated: Clients
    data_sets: Sequence[DatasetOptions]
    cache: Path
    _plans: dict[tuple[float, int, int], Plans] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls, config: Config, splits: Splits, folds: Sequence[Fold], directory: Path
    ) -> Self:
        """Divide public data among simulated clients; every fold becomes a file in ``directory``.

        Raises:
            UsageError: too few public examples.
        """
        sizes = splits.client_sizes()
        real = Clients(len(sizes), config.privacy.expected_examples or sum(sizes) // len(sizes))
        simulated = simulated_clients(len(splits.public), real.count, config.tune)
        files = [directory / "public" / f"{number}.npz" for number in range(len(folds))]
        data_sets = [
            write_fold(fold, simulated, splits.task, config.dataset, path)
            for fold, path in zip(folds, files, strict=True)
        ]
        return cls(config, real, simulated, data_sets, directory / "cache")

    def federate(self, options: Options, fold: int, folder: Path) -> Classes:
        """What the federated student answers to the validation examples of a fold.

        Raises:
            FedliteError: the federation is not possible with these options, or fails.
        """
        from fedlite.runs.execute import execute  # it imports this module, through the table

        config = self.simulated_config(options, fold, folder / "run")
        trial = execute(config, [], FEDERATION, resume=True)
        logits = predict_logits(trial.load("federated_student"), trial.splits.test.inputs)
        shutil.rmtree(trial.run.path)  # its ledgers too: they hold nothing of anybody
        answers: Classes = logits.argmax(dim=1).numpy()
        return answers

    def simulated_config(self, options: Options, fold: int, directory: Path) -> Config:
        """The run of a trial, in ``directory``.

        Raises:
            UsageError: options that contradict each other, or a plan that cannot be kept.
        """
        wished = with_options(self.config, options)
        privacy, federation = simulated_plan(
            wished.privacy,
            wished.federation,
            self.plans_of(wished),
            self.real,
            self.simulated,
        )
        cache_dir = wished.teacher.cache_dir or str(self.cache)
        return dataclasses.replace(
            wished,
            run=RunOptions(dir=str(directory)),
            dataset=self.data_sets[fold],
            partition=simulated_partition(wished.partition),
            teacher=dataclasses.replace(wished.teacher, cache_dir=cache_dir),
            privacy=privacy,
            federation=federation,
            tracking=dataclasses.replace(
                wished.tracking,
                progress=False,
                tensorboard=False,
                tracker="none",
                evaluate_every=federation.rounds,
            ),
            seed=self.seed_of(fold),
        )

    def seed_of(self, fold: int) -> int:
        """Of all draws in the trials on a fold."""
        return derive_seed(self.config.seed, "tune-fold", fold)

    def check_division(self) -> None:
        """Divide the public data of every fold, as its trials will.

        Raises:
            UsageError: the run's partition cannot divide so few examples.
        """
        partition = simulated_partition(self.config.partition)
        for fold, data_set in enumerate(self.data_sets):
            try:
                load_splits(data_set, partition, self.simulated.count, self.seed_of(fold))
            except UsageError as error:
                raise UsageError(
                    f"tune: {self.simulated.examples * self.simulated.count} public examples cannot"
                    f" be divided among {self.simulated.count} simulated clients ({error}); lower"
                    " tune.max_clients or raise dataset.public_size"
                ) from error

    def plans_of(self, config: Config) -> Plans:
        """What the run would spend with a trial's options, calibrated once for those that tell.

        Raises:
            UsageError: a plan that cannot be kept.
        """
        privacy, federation = config.privacy, config.federation
        key = (privacy.sample_rate, federation.rounds, federation.local_steps)
        if privacy.private and key not in self._plans:
            sizes = [self.real.examples] * self.real.count
            self._plans[key] = Plans.build(privacy, federation, sizes, config.fleet)
        return self._plans.get(key, Plans())

    def identity(self, fold: Fold) -> str:
        """A hash of all that decides what a trial on ``fold``, the first one, comes to."""
        groups_of = ("dataset", "partition", "teacher", "student", "distill", "privacy")
        space = deciding(self.config.tune)
        for name in ("trials", "max_seconds", "confirmations"):
            del space[name]
        return identity_of(
            "tune",
            *by_metric(self.config.dataset.metric),
            [deciding(getattr(self.config, group)) for group in (*groups_of, "federation")],
            space,
            [
                state_sha256({"inputs": one.inputs, "labels": one.labels})
                for one in (fold.training, fold.validation)
            ],
            [dataclasses.astuple(one) for one in (self.real, self.simulated)],
            self.config.seed,
        )


def run(pipeline: Pipeline) -> TuneFacts:
    """Write ``tune/experiment.yaml`` and ``tune/trials.csv``."""
    config, splits, root = with_given_clip(pipeline), pipeline.splits, pipeline.run
    overrides, directory = load_overrides(root.path), root.file(FOLDER)
    if removed := [text for text in overrides if text.startswith("~")]:
        raise UsageError(f"{removed[0]}: an experiment file cannot take options away; leave it out")
    seed = derive_seed(config.seed, "tune")
    folds = public_folds(splits.public, splits.public_validation, config.tune.confirmations, seed)
    trials = Trials.prepare(config, splits, folds, directory)
    trials.check_division()
    total = config.tune.trials + 2 * config.tune.confirmations
    with pipeline.progress.stage("tune", total=total) as bar:
        found = tune_federation(
            trials.federate,
            folds,
            tune_space(config.tune, config.privacy, config.federation),
            config.tune,
            splits.task,
            directory,
            trials.identity(folds[0]),
            seed,
            on_trial=lambda trial: bar.advance(),
            on_confirmation=bar.advance,
        )
    write_whole(directory / CSV_FILE, trials_csv(found.search))
    text = describe_tuning(found)
    chosen = {**found.search.trials[0].options, **found.search.chosen.options}
    write_whole(
        directory / EXPERIMENT_FILE,
        experiment_file(overrides, {"seed": config.seed, **chosen}, text),
    )
    return {
        "chosen": chosen,
        "by_hand": found.search.trials[0].options,
        "trials": len(found.search.trials),
        "failed": len(found.search.failed),
        "seconds": found.search.seconds,
        "clients": trials.simulated.count,
        "examples_per_client": trials.simulated.examples,
        "text": text,
        "trials_file": str((directory / CSV_FILE).relative_to(root.path)),
        "experiment_file": str((directory / EXPERIMENT_FILE).relative_to(root.path)),
    }


def with_given_clip(pipeline: Pipeline) -> Config:
    """The run's options with the clip of its plan where it was left open: trials vary it."""
    config, plan = pipeline.config, pipeline.plans.client
    if plan is None or config.privacy.client.clip is not None:
        return config
    client = dataclasses.replace(config.privacy.client, clip=plan.clip)
    return dataclasses.replace(config, privacy=dataclasses.replace(config.privacy, client=client))


def with_options(config: Config, options: Options) -> Config:
    """``config`` with the options of a trial, by their full keys, checked like typed ones.

    Raises:
        UsageError: options that contradict each other.
    """
    plain = config.to_plain()
    for key, value in options.items():
        *parents, name = key.split(".")
        place = plain
        for parent in parents:
            place = place[parent]
        place[name] = value
    return config_from_plain(plain)


def experiment_file(overrides: Sequence[str], values: Options, text: str) -> str:
    """The experiment: the run's own options, and ``values``, which were chosen."""
    known, chosen = set(groups()), {}
    kept: dict[str, object] = {}
    for key, value in values_of(overrides).items():
        if key in known:
            chosen[key] = str(value)
        elif key.split(".")[0] not in NOT_KEPT:
            kept[key] = value
    head = (
        f"Chosen by `{join(['fedlite', 'tune', *overrides])}`\n"
        f"on public data alone. {FREE}\n"
        f"{text}.\n"
        "`fedlite simulate experiment=FILE` takes it; options given beside it win."
    )
    return experiment_yaml(
        {group: choice for group, choice in chosen.items() if group not in NOT_KEPT},
        {**kept, **values},
        head,
    )
