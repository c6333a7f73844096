"""Checkpoints as people have them: wrapped, prefixed, of another format, or of no use."""

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.distill.teacher import load_teacher_checkpoint

INPUTS = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
State = dict[str, Tensor]


def network(seed: int = 0, classes: int = 4) -> nn.Module:
    torch.default_generator.manual_seed(seed)
    layers = OrderedDict(
        body=nn.Linear(6, 5), norm=nn.BatchNorm1d(5), act=nn.Tanh(), head=nn.Linear(5, classes)
    )
    return nn.Sequential(layers).eval()


TRAINED = network(0)


def state_of(model: nn.Module = TRAINED) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def prefixed(prefix: str, state: State | None = None) -> State:
    return {f"{prefix}{name}": value for name, value in (state or state_of()).items()}


def loaded(path: Path) -> nn.Module:
    model = network(1).train()
    load_teacher_checkpoint(model, path)
    return model


def same(model: nn.Module) -> bool:
    return torch.equal(model(INPUTS), TRAINED(INPUTS))


@pytest.mark.parametrize(
    "content",
    [
        state_of(),
        OrderedDict(state_of()),
        {"state_dict": state_of()},
        {"model": state_of(), "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3},
        {"model_state_dict": state_of(), "loss": 0.25},
        {"epoch": 1, "net": state_of()},
        {"checkpoint": {"model": state_of()}},
        {"ema": prefixed("other."), "state_dict": state_of()},
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        {"state_dict": prefixed("model.")},
        {"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(4)}},
        {"state_dict": state_of(), "ema": {**prefixed("a."), **prefixed("b.")}},
        {name: value for name, value in state_of().items() if "num_batches" not in name},
        {name: value.double() for name, value in state_of().items()},
    ],
)
def test_the_arrays_are_found_whatever_is_around_them(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "teacher.pt")
    model = loaded(tmp_path / "teacher.pt")
    assert same(model)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_are_read(prefix: str, tmp_path: Path) -> None:
    save_file(prefixed(prefix), tmp_path / "teacher.safetensors")
    assert same(loaded(tmp_path / "teacher.safetensors"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:40],
        lambda raw: raw[:-8],
        lambda raw: b"",
        lambda raw: b"PK" + raw,
        lambda raw: raw.replace(b"F32", b"F31"),
        lambda raw: raw.replace(b"data_offsets", b"data_offzets"),
    ],
)
def test_damaged_safetensors_are_one_line(spoil, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    save_file(state_of(), path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UsageError, match=r"teacher.safetensors: not a .safetensors file, or"):
        loaded(path)


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (eval, ("open('ran', 'w').close()",))


def truncated(state: State) -> bytes:
    torch.save(state, "whole.pt")
    return Path("whole.pt").read_bytes()[:1000]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (lambda state: b"", "not a state dict"),
        (lambda state: b"weights", "not a state dict"),
        (truncated, "not a state dict"),
        (lambda state: pickle.dumps(Payload(), protocol=2), "without running code"),
        (lambda state: {"model": Payload()}, "without running code"),
        (lambda state: {"model": state, "args": argparse.Namespace()}, "holds argparse.Namespace"),
        (lambda state: [1, 2], "holds list, not a state dict"),
        (lambda state: {"epoch": 3}, "holds dict, not a state dict"),
        (
            lambda state: {**state, "head.bias": torch.zeros(5)},
            r"'head.bias' is of shape \(5,\) where the model has \(4,\)",
        ),
        (
            lambda state: state_of(network(0, classes=7)),
            r"'head.weight' and 1 more are of shape \(7, 5\) where the model has \(4, 5\)",
        ),
        (lambda state: {**state, "extra": torch.ones(2)}, r"'extra' is not in the model, of shape"),
        (
            lambda state: {k: v for k, v in state.items() if "head" not in k},
            r"'head.weight' and 1 more are missing, of shape \(4, 5\)",
        ),
        (
            lambda state: {f"model.{k}": v for k, v in state.items() if "head" not in k},
            r"'head.weight' and 1 more are missing",
        ),
        (
            lambda state: {**prefixed("student."), **prefixed("teacher.")},
            "more than once, under student. and teacher.",
        ),
        (lambda state: {**state, "head.bias": torch.full((4,), torch.nan)}, "not finite"),
    ],
)
def test_a_wrong_checkpoint_is_one_line(content, says, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.pt"
    if content is not None:
        made = content(state_of())
        if isinstance(made, bytes):
            path.write_bytes(made)
        else:
            torch.save(made, path)
    model = network(1)
    before = state_of(model)
    with pytest.raises(UsageError, match=says) as caught:
        load_teacher_checkpoint(model, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
