"""Running the attacks that the options ask for, and keeping what they find."""

import copy
import time

import numpy as np
import torch
from matplotlib.figure import Figure

from fedlite.audit import attack_charts, dirac, inversion, membership
from fedlite.audit.audited import AuditedRun
from fedlite.audit.retrain import Candidates, Retraining
from fedlite.base.errors import UsageError
from fedlite.base.files import read_json, write_json
from fedlite.data.types import PublicData
from fedlite.distill.answers import taught_answers
from fedlite.distill.loss import build_loss
from fedlite.privacy.randomness import make_randomness
from fedlite.report.drawing import save_figure
from fedlite.report.progress import Progress
from fedlite.report.schema import AuditsSection
from fedlite.report.tensorboard import RunBoard

AUDITS_FILE = "audits.json"
SMALLEST_CLIENT = 20  # candidates: with half of them in, none is left without a member

Found = tuple[AuditsSection, dict[str, Figure]]
"""What a part found, as its part of ``audits.json``, and its pictures by name."""


def run_audits(
    audited: AuditedRun, progress: Progress, board: RunBoard | None = None
) -> AuditsSection:
    """Run the parts of ``audit.parts`` and keep each as soon as it is done.

    Writes ``audits.json`` and ``pictures/audit_*.png`` into the run directory; what an earlier
    audit found in other parts stays. A ``board`` gets every part's numbers and pictures.

    Returns:
        All of ``audits.json``.
    """
    path = audited.directory / AUDITS_FILE
    results: AuditsSection = read_json(path) if path.exists() else {"seconds": {}}
    parts = {"dirac": _dirac, "membership": _membership, "inversion": _inversion}
    for name, part in parts.items():
        if name not in audited.config.audit.parts:
            continue
        started = time.perf_counter()
        found, figures = part(audited, progress)
        results |= found
        results["seconds"][name] = time.perf_counter() - started
        for picture, figure in figures.items():
            save_figure(figure, audited.directory / "pictures" / f"{picture}.png")
        write_json(path, results)
        if board is not None:
            board.log_audit(found, figures)
    if board is not None:
        board.close()
    return results


def _dirac(audited: AuditedRun, progress: Progress) -> Found:
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
        {"dirac": {one.unit: one.record() for one in found}},
        {names[one.unit]: attack_charts.canary_scores(one) for one in found},
    )


def _membership(audited: AuditedRun, progress: Progress) -> Found:
    config, splits = audited.config, audited.splits
    options, plan = config.audit, audited.plans.example
    nominal = config.privacy.expected_examples or sum(splits.client_sizes()) // splits.num_clients
    control = options.control and config.privacy.private
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
    return {"membership": found.record()}, {"audit_membership": attack_charts.membership_roc(found)}


def _candidates(audited: AuditedRun, nominal: int) -> Candidates:
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
    taught = taught_answers(
        audited.teacher, inputs, build_loss(audited.config.distill).teacher_taps
    )
    return Candidates(inputs, labels, taught, np.arange(count) % clients)


def _inversion(audited: AuditedRun, progress: Progress) -> Found:
    config, splits, plans = audited.config, audited.splits, audited.plans
    public = splits.public_validation
    row = audited.seed("planted") % len(public)
    planted = PublicData(public.inputs[row : row + 1], public.labels[row : row + 1])
    loss = build_loss(config.distill)
    taught = taught_answers(audited.teacher, planted.inputs, loss.teacher_taps)
    mode = config.privacy.randomness if config.privacy.private else "deterministic"
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
    noise_multiplier = noise.noise_multiplier if noise else None
    record: AuditsSection = {"inversion": found.record(noise_multiplier)}
    if not found.reconstructions:
        return record, {}
    figure = attack_charts.inverted_example(found, splits.task, noise_multiplier)
    return record, {"audit_inversion": figure}
