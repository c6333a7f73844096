"""The networks of ``conf/`` as configurations."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from fedlite.models.options import ModelOptions

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(autouse=True)
def same_random_inputs() -> None:
    """Each test draws the same inputs in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def model_config() -> Callable[..., ModelOptions]:
    """``model_config("student", "cnn", hidden=8)``: that option of ``conf/`` with other kwargs."""

    def read(group: str, name: str, **kwargs: object) -> ModelOptions:
        content = OmegaConf.load(CONF / group / f"{name}.yaml")
        assert isinstance(content, DictConfig)
        known = OmegaConf.to_container(content.kwargs)
        assert isinstance(known, dict)
        assert set(kwargs) <= set(known), "a kwarg that the yaml file does not spell out"
        return ModelOptions(name=content.name, module=content.module, kwargs={**known, **kwargs})

    return read
