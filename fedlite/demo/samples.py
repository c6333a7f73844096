"""Public examples to choose from on the page, as raw values."""

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
    samples = []
    for label in range(min(task.num_classes, MOST_SAMPLES)):
        rows = (public.labels == label).nonzero()
        if not len(rows):
            continue
        row = int(rows[0])
        raw = task.preprocessing.undo(public.inputs[row : row + 1])[0]
        if float((raw - raw.round()).abs().max()) < 1e-2:
            values: list[float] = raw.round().int().flatten().tolist()
        else:
            values = [float(f"{value:.7g}") for value in raw.flatten().tolist()]
        samples.append(Sample(task.class_names[label], values))
    return samples
