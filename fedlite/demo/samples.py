"""Public examples to choose from on the page, as raw values."""

import torch

from fedlite.data.types import PublicData, Task
from fedlite.demo.page import Sample
from fedlite.distill.public import require_public

MOST_SAMPLES = 12


def choose_samples(public: PublicData, task: Task) -> list[Sample]:
    """The first public example of each class, of the first twelve classes, as raw values.

    Values that were whole numbers before normalisation are whole again.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`: the page shows its samples to anybody.
    """
    require_public(public)
    shape = (-1,) + (1,) * (len(task.input_shape) - 1)
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(shape) for v in (task.mean, task.std))
    samples = []
    for label in range(min(task.num_classes, MOST_SAMPLES)):
        rows = (public.labels == label).nonzero()
        if not len(rows):
            continue
        raw = (public.inputs[int(rows[0])].double() * std + mean) * task.scale
        if float((raw - raw.round()).abs().max()) < 1e-2:
            values: list[float] = raw.round().int().flatten().tolist()
        else:
            values = [float(f"{value:.7g}") for value in raw.flatten().tolist()]
        samples.append(Sample(task.class_names[label], values))
    return samples
