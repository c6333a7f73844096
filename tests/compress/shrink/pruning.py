"""One cut of all layers, as the stage of compression makes it."""

from collections.abc import Mapping

from torch import nn

from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from tests.tasks import shaped


def prune_channels(
    model: nn.Module,
    input_shape: tuple[int, ...],
    ratio: float,
    round_to: int,
    layer_ratios: Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
) -> nn.Module:
    """A copy of ``model`` with the planned widths; ratios of 0 give an equal copy."""
    plan = plan_widths(model, shaped(input_shape), ratio, round_to, layer_ratios or {})
    widths = {name: width.kept for name, width in plan.items()}
    return cut_channels(model, shaped(input_shape), widths, criterion or Criterion())
