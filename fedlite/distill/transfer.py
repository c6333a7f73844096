"""Parameter transfer: a student of texts begins with what its teacher knows of single tokens."""

import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.models.pretrained import PretrainedText
from fedlite.models.text import Words
from fedlite.serve.tokens import PAD, UNKNOWN

SPECIAL = max(PAD, UNKNOWN) + 1  # the rows before those of real tokens
TOKENS_AT_ONCE = 256


def transfer_words(student: nn.Module, teacher: nn.Module) -> None:
    """Fill the student's table of vectors in place with the principal components of the teacher's.

    Components and their order follow from teacher and vocabulary, which are public. They are
    scaled, all alike, to the deviation that the table has when it is new. What fills up texts and
    what nobody knows stand in the middle, at zero.

    Args:
        student: of :mod:`fedlite.models.text`.
        teacher: for the same tokens; left as it is, in eval mode.

    Raises:
        UsageError: either has no table of vectors, or the teacher's vectors are shorter.
    """
    words = _words_in(student, "student")
    table = words.table.weight
    vectors = token_vectors(teacher)
    if vectors.shape[1] < table.shape[1]:
        raise UsageError(
            f"distill.word_vectors=teacher: the student's are of {table.shape[1]} numbers, the"
            f" teacher's of {vectors.shape[1]}; lower student.kwargs.width"
        )
    found = principal_components(vectors[SPECIAL:], table.shape[1])
    found *= table.shape[1] ** -0.5 / found.std()
    with torch.no_grad():
        table.zero_()
        table[SPECIAL:] = found.to(table)


def token_vectors(teacher: nn.Module) -> Tensor:
    """What a teacher knows of each token (vocabulary, width): what a pretrained one makes of a text
    of this token alone, or the row of its table.

    Raises:
        UsageError: it has neither.
    """
    if not isinstance(teacher, PretrainedText):
        return _words_in(teacher, "teacher").table.weight.detach().clone()
    device = teacher.head.weight.device
    tokens = torch.arange(teacher.vocabulary, device=device).unsqueeze(1)
    teacher.eval()
    with torch.no_grad():
        return torch.cat([teacher.features(some) for some in torch.split(tokens, TOKENS_AT_ONCE)])


def principal_components(vectors: Tensor, count: int) -> Tensor:
    """The rows of ``vectors`` (n, d) in the ``count`` directions in which they differ most, the
    first component first (Pearson 1901); each component's largest weight is positive."""
    centred = (vectors - vectors.mean(dim=0)).double()
    spread = torch.linalg.eigh(centred.T @ centred)
    directions = spread.eigenvectors.flip(1)[:, :count]
    largest = directions.abs().argmax(dim=0)
    signs = directions[largest, torch.arange(directions.shape[1])].sign()
    found: Tensor = centred @ (directions * signs)
    return found.float()


def _words_in(model: nn.Module, who: str) -> Words:
    for module in model.modules():
        if isinstance(module, Words):
            return module
    remedy = "text_bag, text_cnn or text_transformer" if who == "student" else "minilm or text_cnn"
    raise UsageError(
        f"distill.word_vectors=teacher: the {who} {type(model).__name__} has no table of vectors;"
        f" use {who}={remedy}"
    )
