"""Tasks made up for tests."""

from fedlite.data.types import Normalise, Task


def shaped(input_shape: tuple[int, ...], num_classes: int = 10, name: str = "made up") -> Task:
    """A task of inputs of this shape that are normalised already."""
    return Task(
        name=name,
        input_shape=tuple(input_shape),
        class_names=tuple(map(str, range(num_classes))),
        preprocessing=Normalise(scale=1.0, mean=(0.0,), std=(1.0,)),
        metric="accuracy",
        example="one example",
    )
