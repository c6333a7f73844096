"""What a model takes, told from its preprocessing alone."""

import pytest

from fedlite.serve.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("shape", "mean", "std", "kind", "words"),
    [
        ((1, 28, 28), 0.13, 0.31, "picture", "grey pictures of 28x28"),
        ((3, 24, 32), 0.5, 0.25, "picture", "colour pictures of 32x24"),
        ((1, 40, 49), -6.2, 3.1, "map", "spectrograms"),
        ((1, 40, 49), 0.0, 1.0, "map", "spectrograms"),
        ((8, 5, 5), 0.4, 0.2, "map", "maps of 8 x 5 x 5 values"),
        ((9, 128), 0.0, 0.4, "series", "series of 9 x 128 values"),
        ((6,), 0.3, 0.3, "vector", "rows of 6 numbers"),
    ],
)
def test_shape_and_spread_tell_what_an_example_is(
    shape: tuple[int, ...], mean: float, std: float, kind: str, words: str
) -> None:
    found = Preprocessing(shape, 1.0, (mean,) * shape[0], (std,) * shape[0])
    assert found.kind == kind
    assert words in found.words
