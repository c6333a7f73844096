"""Networks of one's own on trial: what is wrong with a class or its answer, and what to do."""

import copy
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.base.foreign import FAILURES, refusal
from fedlite.base.seeded import seeded


def call_problem(cls: type[nn.Module], arguments: Mapping[str, Any]) -> str:
    """Why ``cls`` cannot be called with ``arguments`` by keyword, and the remedy; "" if it can.

    ``arguments`` hold ``input_shape``, ``num_classes`` and what ``kwargs`` give.
    """
    try:
        taken = inspect.signature(cls).parameters.values()
    except (ValueError, TypeError):  # a class in C has no signature
        return ""
    takes_any = any(one.kind is one.VAR_KEYWORD for one in taken)
    named = [one for one in taken if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names = [one.name for one in named]
    own = ", ".join(names) or "nothing"
    if not takes_any:
        for name in ("input_shape", "num_classes"):
            if name not in names:
                return (
                    f"its __init__ takes {own}; let it take input_shape and num_classes too, by"
                    " which every network is built, or write a class around it that does"
                )
        for name in arguments:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; it takes {own}"
                return f"its __init__ takes no '{name}', which kwargs give{hint}"
    for one in named:
        if one.default is one.empty and one.name not in arguments:
            return (
                f"its __init__ needs '{one.name}'; give it in kwargs, as +student.kwargs.{one.name}"
                f"=VALUE or +teacher.kwargs.{one.name}=VALUE, or give it a default"
            )
    return ""


def text_problem(cls: type[nn.Module], vocabulary: int | None) -> str:
    """Why ``cls`` does not suit data of texts, or data of numbers; "" if it does.

    A network for texts takes ``vocabulary`` (:mod:`fedlite.models.text`).
    """
    try:
        taken = inspect.signature(cls).parameters
    except (ValueError, TypeError):  # a class in C has no signature
        return ""
    if any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return ""
    if vocabulary is not None and "vocabulary" not in taken:
        return (
            "is not for texts; take text_cnn, text_bag or text_transformer, or let its __init__"
            " take vocabulary, the number of tokens"
        )
    named = taken.get("vocabulary")
    if vocabulary is None and named is not None and named.default is named.empty:
        return "is for texts (dataset=text), and this data set holds numbers"
    return ""


def answer_problem(answer: object, count: int, num_classes: int) -> str:
    """Why ``answer`` to ``count`` examples is no logits (count, num_classes), and the remedy; "" if
    it is."""
    wanted = f"must answer logits of shape ({count}, {num_classes})"
    if not isinstance(answer, Tensor):
        return f"{wanted}, not {type(answer).__name__}; let forward return {_logits_in(answer)}"
    found = tuple(answer.shape)
    if found != (count, num_classes):
        return f"{wanted}, not {found}; {_shape_remedy(found, count, num_classes)}"
    if answer.dtype not in (torch.float32, torch.float64):
        kind = str(answer.dtype).removeprefix("torch.")
        return f"{wanted} in float32, not {kind}; let forward end with .float()"
    return ""


def check_training(model: nn.Module, inputs: Tensor, num_classes: int, who: str) -> None:
    """Refuse a network that cannot be trained by gradients: a forward and a backward pass, in
    training mode, of a copy.

    Args:
        model: left as it is, and the generators too.
        inputs: two or more, (n, *input_shape).
        num_classes: of the logits.
        who: ``student`` or ``teacher``, in the error.

    Raises:
        UsageError: says why, and the remedy.
    """
    labels = torch.arange(len(inputs)) % num_classes
    try:
        with seeded(0):
            trial = copy.deepcopy(model).train()
            answer = trial(inputs)
            if problem := answer_problem(answer, len(inputs), num_classes):
                raise UsageError(f"{who}: in training mode it {problem}")
            loss = F.cross_entropy(answer, labels)
            if not loss.requires_grad:
                raise UsageError(
                    f"{who}: its answer has no gradient; let forward stay in torch, without"
                    " detach(), numpy() and torch.no_grad()"
                )
            torch.autograd.backward(loss)
    except UsageError:
        raise
    except FAILURES as error:
        raise refusal(f"{who}: fails in training mode", error) from error


def _logits_in(answer: object) -> str:
    """What to return instead of ``answer``: the tensor of logits in it, if one has that name."""
    if answer is None:
        return "the tensor of logits"
    if isinstance(answer, Mapping):
        key = "logits" if "logits" in answer else next(iter(answer), "logits")
        return f"the tensor of logits alone, such as answer[{key!r}]"
    if isinstance(getattr(answer, "logits", None), Tensor):
        return "its .logits"
    if isinstance(answer, tuple | list):
        return "the tensor of logits alone, such as answer[0]"
    return "a torch tensor"


def _shape_remedy(found: tuple[int, ...], count: int, num_classes: int) -> str:
    if len(found) == 2 and found[0] == count:
        return f"let its last layer have num_classes={num_classes} outputs"
    if found == (num_classes,) and count == 1:
        return "keep the batch in dimension 0 for one example too (squeeze() takes it away)"
    if found and found[0] == count:
        return "let it flatten, pool or take one position before its last layer"
    return "keep the examples of the batch in dimension 0"
