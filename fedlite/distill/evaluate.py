"""Evaluating a network: logits in batches, then accuracy, macro-F1, loss and confusion."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import Tensor, nn

from fedlite.base.records import Evaluation
from fedlite.data.types import PublicData, TestData
from fedlite.distill.answers import ANSWERS_AT_ONCE, taught_answers


def predict_logits(model: nn.Module, inputs: Tensor, batch_size: int = ANSWERS_AT_ONCE) -> Tensor:
    """Logits (n, C) of ``inputs`` (n, ...), on the processor, in eval mode without gradients; the
    mode is restored."""
    return taught_answers(model, inputs, batch_size=batch_size).logits.cpu()


def evaluate_logits(
    logits: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int
) -> Evaluation:
    """Measures of ``logits`` (n, ``num_classes``) against ``labels`` (n,).

    A class that appears in neither labels nor predictions counts as 0 in the macro-F1
    (scikit-learn with ``zero_division=0``). The loss is the mean cross-entropy in nats.
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    predicted, true, classes = logits.argmax(dim=1).numpy(), labels.numpy(), range(num_classes)
    return Evaluation(
        accuracy=float(accuracy_score(true, predicted)),
        macro_f1=float(f1_score(true, predicted, labels=classes, average="macro", zero_division=0)),
        loss=float(F.cross_entropy(logits, labels)),
        confusion=confusion_matrix(true, predicted, labels=classes).tolist(),
    )


def evaluate_model(model: nn.Module, data: PublicData | TestData, num_classes: int) -> Evaluation:
    """Measures of ``model`` on ``data``; its mode is restored."""
    return evaluate_logits(predict_logits(model, data.inputs), data.labels, num_classes)
