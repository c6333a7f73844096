"""Weights of classes that are rare, from public labels alone."""

import torch
from torch import Tensor

from fedlite.distill.options import ClassWeights


def class_weights(labels: Tensor, num_classes: int, how: ClassWeights) -> tuple[float, ...]:
    """What the loss of an example of each class is multiplied by; empty for ``none``.

    ``balanced`` is n / (classes * examples of the class), so that all classes weigh the same and an
    example 1 on average (King and Zeng 2001, "Logistic Regression in Rare Events Data"). A class
    without a public example weighs as much as one with a single example.

    Args:
        labels: (n,) of public examples.
        num_classes: length of the result.
        how: ``teacher.class_weights`` or ``distill.class_weights``.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 2, "balanced")
    (0.6666666865348816, 2.0)
    """
    if how == "none":
        return ()
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    weights: list[float] = (len(labels) / (num_classes * counts)).tolist()
    return tuple(weights)
