"""The picture of a forecast: epsilon by round."""

import math
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedlite.cli.show_plan import label
from fedlite.report.charts import planned_epsilon
from fedlite.report.drawing import save_figure
from fedlite.runs.forecast import Forecast

CURVE_POINTS = 12


def draw_forecast(found: Forecast, picture: Path) -> None:
    """Draw epsilon by round of every guarantee, and of a single update under aggregate trust, and
    print where it lies.

    Raises:
        FedliteError: it cannot be written.
    """
    guarantees, rounds = found.guarantees, found.config.federation.rounds
    parts = [part / CURVE_POINTS for part in range(CURVE_POINTS + 1)]
    shown = sorted({max(1, math.ceil(rounds * part**2)) for part in parts})  # steep at the start
    curves = {label(one): [one.epsilon_after(count) for count in shown] for one in guarantees}
    for one in guarantees:
        if one.trust == "aggregate":
            alone = [one.epsilon_after(count, "pld", alone=True) for count in shown]
            curves[f"{one.name}: towards the server"] = alone
    chosen = [label(one) for one in guarantees if one.chosen]
    save_figure(planned_epsilon(shown, curves, chosen), picture)
    where = Text.assemble(("\npicture  ", "dim"), str(picture))
    Console(highlight=False).print(where, soft_wrap=True)
