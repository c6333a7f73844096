"""Tasks made up for tests."""

from fedlite.data.tokens import learn_tokenizer
from fedlite.data.types import Normalise, Task, Tokens
from fedlite.serve.tokens import words_of


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


def texts(
    length: int = 6, num_classes: int = 3, name: str = "made up", kind: str = "words"
) -> Task:
    """A task of texts of up to ``length`` tokens."""
    words = "the cat sat on a mat, and the dog ran to a café's log_7!"
    tokenizer = learn_tokenizer([words, words], kind, 100, lowercase=True)
    return Task(
        name=name,
        input_shape=(length,),
        class_names=tuple(map(str, range(num_classes))),
        preprocessing=Tokens(tokenizer, len(words_of(tokenizer))),
        metric="accuracy",
        example="one text",
        columns=("text",),
    )
