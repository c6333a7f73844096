"""How sure a shipped model is to be taken, and below which confidence to ask its teacher:
``calibration.json`` beside it."""

import math
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.serve.preprocessing import read_json

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Logits are divided by ``temperature`` before the softmax; an answer whose probability is
    below ``threshold`` is one to ask the teacher about. None: no threshold was chosen."""

    temperature: float = 1.0
    threshold: float | None = None


def read_calibration(model_path: Path) -> Calibration:
    """The calibration of a model; that of none where the folder has no ``calibration.json``, or it
    does not name the model.

    Raises:
        FedliteError: it is damaged.
    """
    path = model_path.with_name(CALIBRATION)
    if not path.is_file():
        return Calibration()
    try:
        entry = read_json(path).get(model_path.name)
        if entry is None:
            return Calibration()
        temperature, threshold = float(entry["temperature"]), entry.get("threshold")
        found = Calibration(temperature, None if threshold is None else float(threshold))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: damaged; needs a temperature for each model") from error
    if not (0 < temperature < math.inf):
        raise FedliteError(f"{path}: damaged; temperature={temperature:g} must be > 0 and finite")
    return found
