"""The whole of fedlite's federation as one visible loop, without Flower, messages or files.

    python examples/federated_loop.py

A teacher and a student learn from public digits; then twenty clients improve the student on digits
that never leave them, each under differential privacy and with a ledger of its own. `fedlite
simulate` does the same through Flower's apps, and compresses, measures and reports besides.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import fedlite
from fedlite.distill.answers import taught_answers
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.loss import build_loss, example_losses
from fedlite.distill.teacher import train_teacher
from fedlite.distill.warm_start import warm_start
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.workbench import TrainedPart
from fedlite.models.build import build_model, load_state
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.compose import compose_config


def main() -> None:
    """Train, round by round, and print what each round brought and cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--epochs", type=int, default=20, help="of teacher and warm start")
    given = parser.parse_args()
    options = [
        f"federation.num_clients={given.clients}",
        f"teacher.epochs={given.epochs}",
        f"distill.warm_start.epochs={given.epochs}",
    ]
    config, splits = compose_config(options), fedlite.load_splits(*options)
    task, public, augment = splits.task, splits.public, config.dataset.augment

    def accuracy(model: torch.nn.Module) -> float:
        return evaluate_model(model, splits.test, task.num_classes).accuracy

    # Public data alone: what everybody may see costs no privacy.
    teacher = build_model(config.teacher, task, seed=0)
    train_teacher(teacher, public, splits.public_validation, config.teacher, augment, seed=0)
    student = build_model(config.student, task, seed=0)
    warm_start(student, teacher, public, config.distill, augment, seed=0)
    print(f"teacher {accuracy(teacher):.3f}, student from public data {accuracy(student):.3f}")

    # One plan for all rounds couples sampling, clipping, noise and accounting.
    plan = PrivacyPlan.build(
        epsilon=given.epsilon,
        delta=1e-5,
        noise_multiplier=None,
        max_grad_norm=config.privacy.max_grad_norm,
        sample_rate=config.privacy.sample_rate,
        expected_examples=sum(splits.client_sizes()) // given.clients,
        steps=1,
        max_participations=given.rounds,
        accountant="prv",
        randomness="secure",
    )
    loss = build_loss(config.distill)
    clients = [splits.client(number) for number in range(given.clients)]
    taught = [taught_answers(teacher, data.inputs) for data in clients]  # asked once
    learning_rate = config.federation.learning_rate
    work = LocalWork(plan.steps, plan.sample_rate, plan.expected_batch_size, learning_rate, 0.0)

    with tempfile.TemporaryDirectory() as folder:
        ledgers = [
            LedgerFile(Path(folder) / f"{i}.ledger", f"client-{i}") for i in range(len(clients))
        ]
        create_ledgers(ledgers)  # once; from then on they only grow
        state = {name: value.clone() for name, value in student.state_dict().items()}
        for number in range(1, given.rounds + 1):
            replies, spent = [], 0.0
            for data, answers, ledger in zip(clients, taught, ledgers, strict=True):
                spending = ledger.charge(  # before training, and never given back
                    Charge("loop", number, *plan.segment),
                    budget=plan.epsilon,
                    delta=plan.delta,
                    accountant=plan.accountant,
                )
                if not spending.accepted:
                    continue
                load_state(student, state, where="the server")
                losses = example_losses(loss, data.inputs, data.labels, answers)
                part = TrainedPart(student, losses, len(data))
                replies.append(train_client(student, part, work, plan, SecureRandomness()))
                spent = max(spent, spending.epsilon)
            state = {
                name: torch.stack([reply[name] for reply in replies]).mean(dim=0) for name in state
            }
            load_state(student, state, where="the server")
            print(f"round {number}: accuracy {accuracy(student):.3f}, epsilon {spent:.2f}")


if __name__ == "__main__":
    main()
