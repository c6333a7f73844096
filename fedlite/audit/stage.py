"""The audit stage: runs the attacks that a configuration asks for and keeps what they find."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from fedlite.audit import dirac, inversion, membership, pictures
from fedlite.audit.retrain import Candidates, Retraining
from fedlite.config import Config
from fedlite.data import Splits
from fedlite.data.types import PublicData
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.losses import build_loss
from fedlite.errors import UsageError
from fedlite.files import read_json, write_json
from fedlite.plans import Plans
from fedlite.privacy import compute_epsilon, derive_seed, make_randomness
from fedlite.privacy_report import read_spending
from fedlite.run_directory import RunDirectory
from fedlite.summary import AUDITS_FILE
from fedlite.tracking.pictures import save_figure
from fedlite.tracking.progress import Progress
from fedlite.tracking.tensorboard import RunBoard

SMALLEST_CLIENT = 20  # candidates: with half of them in, none is left without a member

Found = tuple[dict[str, Any], dict[str, Figure]]


@dataclass(frozen=True)
class Audited:
    """A finished run as the audits see it.

    ``student`` and ``teacher`` are those that round 1 started with. ``participations`` is how many
    rounds the most active client was charged for, ``rounds`` how many there were.
    """

    config: Config
    splits: Splits
    plans: Plans
    student: nn.Module
    teacher: nn.Module
    participations: int
    rounds: int
    directory: Path

    @property
    def delta(self) -> float:
        """At which the bounds on one example are given."""
        plan = self.plans.example
        return min(plan.delta, dirac.LARGEST_DELTA) if plan else dirac.LARGEST_DELTA

    @property
    def claimed_epsilon(self) -> float | None:
        """Of one example at :attr:`delta`; None without example-level privacy."""
        plan = self.plans.example
        if plan is None:
            return None
        segment = (plan.noise_multiplier, plan.sample_rate, plan.steps * self.participations)
        return compute_epsilon([segment], self.delta, plan.accountant)

    @classmethod
    def of_run(
        cls,
        config: Config,
        run: RunDirectory,
        splits: Splits,
        plans: Plans,
        ledger_dir: Path,
        student: nn.Module,
        teacher: nn.Module,
    ) -> Self:
        """A finished run, with what was charged for it in its ledgers.

        Raises:
            FedliteError: ledgers that are damaged or do not hold this run's charges.
        """
        history = run.facts("federate")["history"]
        spent = read_spending(config, plans, splits.num_clients, ledger_dir, run.run_id, history)
        charged = [sum(charge.run == run.run_id for charge in one) for one in spent.clients]
        rounds = len(history)
        return cls(
            config=config,
            splits=splits,
            plans=plans,
            student=student,
            teacher=teacher,
            participations=max(charged, default=0) or rounds,
            rounds=rounds,
            directory=run.path,
        )

    def seed(self, purpose: str) -> int:
        """For a draw of the audit's own."""
        return derive_seed(self.config.seed, f"audit-{purpose}")


def run_audits(
    audited: Audited, progress: Progress, board: RunBoard | None = None
) -> dict[str, Any]:
    """Run the parts of ``audit.parts`` and keep each as soon as it is done.

    Writes ``audits.json`` and ``pictures/audit_*.png`` into the run directory; what an earlier
    audit found in other parts stays. A ``board`` gets every part's numbers and pictures.

    Returns:
        All of ``audits.json``.
    """
    path = audited.directory / AUDITS_FILE
    results: dict[str, Any] = read_json(path) if path.exists() else {"seconds": {}}
    parts = {"dirac": _dirac, "membership": _membership, "inversion": _inversion}
    for name, part in parts.items():
        if name not in audited.config.audit.parts:
            continue
        started = time.perf_counter()
        record, figures = part(audited, progress)
        results[name] = record
        results["seconds"][name] = time.perf_counter() - started
        for picture, figure in figures.items():
            save_figure(figure, audited.directory / "pictures" / f"{picture}.png")
        write_json(path, results)
        if board is not None:
            board.log_audit({name: record}, figures)
    if board is not None:
        board.close()
    return results


def _dirac(audited: Audited, progress: Progress) -> Found:
    config, plans = audited.config, audited.plans
    found = []
    seed = audited.seed("coins")
    with progress.stage("canaries") as bar:
        if plans.example is not None or plans.client is None:
            plan = plans.example
            mode = config.privacy.randomness if plan else "deterministic"
            found.append(
                dirac.audit_examples(
                    plan=plan,
                    steps=plan.steps if plan else config.federation.local_steps,
                    sample_rate=plan.sample_rate if plan else config.privacy.sample_rate,
                    participations=audited.participations,
                    canaries=config.audit.canaries,
                    coins_seed=seed,
                    noise_of=lambda number: make_randomness(mode, seed, "examples", number),
                )
            )
        if plans.client is not None:
            found.append(
                dirac.audit_clients(
                    plan=plans.client,
                    rounds=audited.rounds,
                    canaries=config.audit.canaries,
                    coins_seed=seed,
                    noise_of=lambda number: make_randomness(
                        config.privacy.randomness, seed, "clients", number
                    ),
                )
            )
        bar.advance(0, lower_bound=max(one.bound.epsilon for one in found))
    names = {"example": "audit_dirac", "client": "audit_dirac_client"}
    return (
        {one.unit: one.record() for one in found},
        {names[one.unit]: pictures.canary_scores(one) for one in found},
    )


def _membership(audited: Audited, progress: Progress) -> Found:
    config, splits = audited.config, audited.splits
    options, plan = config.audit, audited.plans.example
    nominal = config.privacy.expected_examples or sum(splits.client_sizes()) // splits.num_clients
    control = options.control and config.private
    models = (options.targets + options.shadows) * (2 if control else 1)
    student = copy.deepcopy(audited.student)
    with progress.stage("membership", total=models) as bar:
        found = membership.audit_membership(
            Retraining(
                config=config,
                plans=audited.plans,
                rounds=audited.rounds if plan is None else audited.participations,
                nominal=plan.expected_examples if plan else nominal,
                student=student,
                start={name: value.clone() for name, value in student.state_dict().items()},
                candidates=_candidates(audited, nominal),
                directory=audited.directory,
            ),
            targets=options.targets,
            shadows=options.shadows,
            claimed_epsilon=audited.claimed_epsilon,
            delta=audited.delta,
            compression=membership.Compression(audited.teacher, splits.task, splits.public)
            if options.compressed
            else None,
            control=control,
            on_model=bar.advance,
        )
        bar.advance(0, auc=found.attacks[membership.STUDENT].auc)
    return found.record(), {"audit_membership": pictures.membership_roc(found)}


def _candidates(audited: Audited, nominal: int) -> Candidates:
    """Twice the nominal size of each audited client, half of which will be members."""
    test, clients = audited.splits.test, audited.config.audit.clients
    count = min(len(test), 2 * nominal * clients)
    if count < SMALLEST_CLIENT * clients:
        raise UsageError(
            f"audit.clients={clients}: {len(test)} test examples in clients of {nominal} leave"
            f" fewer than {SMALLEST_CLIENT} candidates for each; give fewer clients"
        )
    rows = np.random.default_rng(audited.seed("candidates")).permutation(len(test))[:count]
    inputs = test.inputs[torch.from_numpy(rows)]
    labels = test.labels[torch.from_numpy(rows)]
    taught = predict_logits(audited.teacher, inputs)
    return Candidates(inputs, labels, taught, np.arange(count) % clients)


def _inversion(audited: Audited, progress: Progress) -> Found:
    config, splits, plans = audited.config, audited.splits, audited.plans
    public = splits.public_validation
    row = audited.seed("planted") % len(public)
    planted = PublicData(public.inputs[row : row + 1], public.labels[row : row + 1])
    taught = predict_logits(audited.teacher, planted.inputs)
    loss = build_loss(config.distill)
    mode = config.privacy.randomness if config.private else "deterministic"
    gradients = inversion.observed_gradients(
        audited.student,
        loss,
        planted,
        taught,
        plans,
        config.federation.learning_rate,
        make_randomness(mode, audited.seed("inversion"), "noise"),
    )
    steps = config.audit.inversion_steps
    with progress.stage("inversion", total=len(inversion.SEARCHES) * steps * len(gradients)) as bar:
        found = inversion.invert(
            audited.student,
            loss,
            planted,
            taught,
            gradients,
            steps=steps,
            seed=audited.seed("search"),
            bounds=(float(splits.public.inputs.min()), float(splits.public.inputs.max())),
            on_step=bar.advance,
        )
        for name in (inversion.PLAIN, inversion.NOISED):
            bar.advance(0, **{name: found.cosine.get(name)})
    noise = plans.example or plans.client
    record = found.record() | {"noise_multiplier": noise.noise_multiplier if noise else None}
    if not found.reconstructions:
        return record, {}
    figure = pictures.inverted_example(found, splits.task, record["noise_multiplier"])
    return record, {"audit_inversion": figure}
