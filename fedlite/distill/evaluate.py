"""Evaluating a network: logits in batches, then accuracy, macro-F1, loss and confusion."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.records import Evaluation
from fedlite.data.types import PublicData, TestData
from fedlite.distill.answers import (
    ANSWERS_AT_ONCE,
    front_end_features,
    in_channels_last,
    taught_answers,
)
from fedlite.models.build import FixedFrontEnd


def predict_logits(model: nn.Module, inputs: Tensor, batch_size: int = ANSWERS_AT_ONCE) -> Tensor:
    """Logits (n, C) of ``inputs`` (n, ...), on the processor, in eval mode without gradients; the
    mode is restored."""
    return taught_answers(model, inputs, batch_size=batch_size).logits.cpu()


def evaluate_logits(
    logits: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int
) -> Evaluation:
    """Measures of ``logits`` (n, ``num_classes``) against ``labels`` (n,).

    The macro-F1 is the mean over all classes of 2 TP / (2 TP + FP + FN); a class that appears in
    neither labels nor predictions counts as 0. The loss is the mean cross-entropy in nats.
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    pairs = labels * num_classes + logits.argmax(dim=1)
    confusion = torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    right = confusion.diagonal()
    counted = confusion.sum(dim=0) + confusion.sum(dim=1)
    return Evaluation(
        accuracy=int(right.sum()) / len(labels),
        macro_f1=float((2 * right.double() / counted.clamp(min=1)).mean()),
        loss=float(F.cross_entropy(logits, labels)),
        confusion=confusion.tolist(),
    )


def evaluate_model(model: nn.Module, data: PublicData | TestData, num_classes: int) -> Evaluation:
    """Measures of ``model`` on ``data``; its mode is restored."""
    return evaluate_logits(predict_logits(model, data.inputs), data.labels, num_classes)


def evaluator(
    model: nn.Module, data: PublicData | TestData, num_classes: int
) -> Callable[[], Evaluation]:
    """A function that measures ``model`` on ``data``, with the weights that it has at the call.

    What a fixed front end makes of the data is worked out once; any other model is left with
    channels last.
    """
    if not isinstance(model, FixedFrontEnd):
        return partial(evaluate_model, in_channels_last(model, data.inputs[:2]), data, num_classes)
    features = front_end_features(model, data.inputs)
    return lambda: evaluate_logits(predict_logits(model.head, features), data.labels, num_classes)
