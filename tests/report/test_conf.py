"""Every choice in conf/tracking names every option of the schema."""

from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fedlite.report.options import TrackingOptions

FOLDER = Path(__file__).parents[2] / "conf" / "tracking"


@pytest.mark.parametrize("name", ["default", "quiet"])
def test_conf(name: str) -> None:
    conf = OmegaConf.load(FOLDER / f"{name}.yaml")
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrackingOptions), conf))
    assert set(conf) == {field.name for field in fields(TrackingOptions)}
    assert isinstance(typed, TrackingOptions)
    assert typed.progress is (name == "default")
