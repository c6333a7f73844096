"""What every program of `scripts/bench_simulation.py` is given: the work, the student, a clock.

Needs numpy and torch alone, so that it runs in a peer's environment. One round: every client starts
from the round's weights, takes one step of SGD on a batch of its own examples, and the server takes
the average. With privacy, gradients are clipped one example at a time and noise is added.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fedlite.models.cnn import CNN
from fedlite.models.mlp import MLP

STUDENTS = {"cnn": CNN, "mlp": MLP}


@dataclass(frozen=True)
class Work:
    """The work as `work.json` in ``folder`` says, which holds the examples as `work.npz` beside it.

    ``noise_multiplier`` of None is without privacy. Every client has as many examples.
    """

    folder: Path
    student: str
    clients: int
    rounds: int
    batch_size: int
    learning_rate: float
    noise_multiplier: float | None
    max_grad_norm: float
    workers: int

    @classmethod
    def given(cls) -> "Work":
        """Of the folder that BENCH_WORK names; one thread for each process."""
        torch.set_num_threads(1)
        folder = Path(os.environ["BENCH_WORK"])
        return cls(folder, **json.loads((folder / "work.json").read_text()))

    def examples(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and labels of each client."""
        with np.load(self.folder / "work.npz") as arrays:
            inputs = torch.from_numpy(arrays["x_train"].astype(np.float32) / 255)
            labels = torch.from_numpy(arrays["y_train"].astype(np.int64))
        return list(inputs.chunk(self.clients)), list(labels.chunk(self.clients))

    def model(self) -> nn.Module:
        """The student with its first weights."""
        torch.manual_seed(0)
        with np.load(self.folder / "work.npz") as arrays:
            shape = arrays["x_train"].shape[1:]
        return STUDENTS[self.student](input_shape=shape, num_classes=10)


class Clock:
    """Seconds from the start of the program to that of the first round, and of every round."""

    def __init__(self) -> None:
        self._marks: list[float] = []

    @property
    def running(self) -> bool:
        """Whether the rounds have begun."""
        return bool(self._marks)

    def mark(self, ago: float = 0.0) -> None:
        """The rounds begin, or one has ended, so many seconds ago."""
        self._marks.append(time.time() - ago)

    def tell(self, weights: Tensor) -> None:
        """Print the times, and how far the student is from where it began, as one line of JSON."""
        started = float(os.environ["BENCH_STARTED"])
        rounds = [after - before for before, after in pairwise(self._marks)]
        moved = float(weights.norm())
        print(json.dumps({"start": self._marks[0] - started, "rounds": rounds, "moved": moved}))


def flat(model: nn.Module) -> Tensor:
    """All weights in one row."""
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()])
