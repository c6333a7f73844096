"""Hints (Romero et al. 2015): the student's features shall be those of the teacher."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.feature_loss import FeatureLoss, check_shapes, on_one_grid
from fedlite.distill.loss import LooksInside
from fedlite.distill.options import LossOptions
from fedlite.distill.taps import Between, last_layer, placed

NAME, WEIGHT = "hints", 1.0


def hint_loss(student: Tensor, teacher: Tensor, *, projection: Tensor | None) -> Tensor:
    """Squared distance (n,) of the features' directions, the mean over places.

    Romero et al. 2015, *FitNets: hints for thin deep nets*, equation 3, with two differences.
    Features are vectors of length 1, so that no scale is taught. And where FitNets train a
    regressor from the student's width to the teacher's, the teacher's features go through a fixed
    random ``projection`` to the student's: under DP-SGD a regressor would be trained under noise,
    be clipped together with the student, and be thrown away at the end.

    Args:
        student: (n, channels) or (n, channels, *places).
        teacher: the same with its own channels and places.
        projection: (teacher's channels, student's channels); None: as they are.
    """
    own, taught = on_one_grid(student, teacher)
    if projection is not None:
        taught = torch.einsum("ncp,cd->ndp", taught, projection.to(taught))
    gap = F.normalize(own, dim=1) - F.normalize(taught, dim=1)
    return gap.square().sum(dim=1).mean(dim=1)


def random_projection(inputs: int, outputs: int) -> Tensor:
    """Signs (inputs, outputs) over the root of ``outputs``, which keep distances in expectation
    (Achlioptas 2003, *Database-friendly random projections*); the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (inputs, outputs), generator=generator)
    return (2.0 * signs - 1) / math.sqrt(outputs)


def build(options: LossOptions) -> LooksInside:
    """Soft labels and :func:`hint_loss` of what the last linear layers are given."""

    def place(between: Between) -> FeatureLoss:
        given = (options.student_layer, options.teacher_layer)
        student, teacher = placed(between, given, last_layer, NAME, "linear layer at its end")
        ((own, taught),) = between.features(NAME, [student], [teacher])
        check_shapes(NAME, own, taught, range(2, 5))
        widths = taught.shape[1], own.shape[1]
        projection = None if widths[0] == widths[1] else random_projection(*widths)
        term = partial(hint_loss, projection=projection)
        return FeatureLoss.of(options, ([student], [teacher]), term, WEIGHT)

    return LooksInside(place)
