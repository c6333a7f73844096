"""Attention transfer (Zagoruyko and Komodakis 2017): where in the input a network is active."""

import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.feature_loss import FeatureLoss, check_shapes, on_one_grid
from fedlite.distill.loss import LooksInside
from fedlite.distill.options import LossOptions
from fedlite.distill.taps import Between, last_maps, placed

NAME, WEIGHT = "attention", 10.0


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance (n,) of two normalised attention maps.

    Zagoruyko and Komodakis 2017, *Paying more attention to attention*, equation 2 squared: a map is
    the sum of squares over channels at each place, as a vector of length 1.

    Args:
        student, teacher: (n, channels, *places), of any number of channels; the finer grid of
            places is averaged onto the coarser.
    """
    active = (maps.square().sum(dim=1, keepdim=True) for maps in (student, teacher))
    own, taught = on_one_grid(*active)
    return (F.normalize(own, dim=2) - F.normalize(taught, dim=2)).square().sum(dim=(1, 2))


def build(options: LossOptions) -> LooksInside:
    """Soft labels and :func:`attention_loss` of the last feature maps of convolutions."""

    def place(between: Between) -> FeatureLoss:
        given = (options.student_layer, options.teacher_layer)
        what = "feature maps of convolutions"
        student, teacher = placed(between, given, last_maps, NAME, what)
        ((own, taught),) = between.features(NAME, [student], [teacher])
        check_shapes(NAME, own, taught, range(3, 5))
        return FeatureLoss.of(options, ([student], [teacher]), attention_loss, WEIGHT)

    return LooksInside(place)
