"""Where networks compute: one option, its refusals, and what moves there and back."""

import logging

import pytest
import torch
from torch import nn

from fedlite.base import compute
from fedlite.base.compute import client_device, compute_device, device_of, memory_explained, moved
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.seeded import generator_state, seeded
from tests.second_device import SECOND, second_device

__all__ = ["second_device"]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_processor_and_cuda_is_refused_in_one_line() -> None:
    assert compute_device("auto") == compute_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"^device=cuda: torch \S+ finds no GPU; use device=cpu"):
        compute_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_client_whose_gpu_is_gone_goes_on_and_its_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert client_device("auto") == client_device("cpu") == torch.device("cpu")
        assert not caplog.records
        assert client_device("cuda") == torch.device("cpu")
    (line,) = caplog.messages
    assert line == "device=cuda: torch finds no GPU; this client trains on the processor"


@pytest.mark.parametrize("decide", [compute_device, client_device])
def test_another_word_is_refused(decide: type) -> None:
    with pytest.raises(UsageError, match="device=gpu: must be auto, cpu or cuda"):
        decide("gpu")


@pytest.mark.usefixtures("second_device")
def test_where_there_is_a_gpu_auto_takes_it_and_float32_stays_float32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    assert compute_device("cpu") == torch.device("cpu")
    assert torch.backends.cudnn.allow_tf32
    assert compute_device("auto").type == compute_device("cuda").type == SECOND.type
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_models_come_back_whatever_happens_meanwhile() -> None:
    model, empty = nn.Linear(2, 2), nn.Identity()
    before = model.weight.detach().clone()

    def work() -> None:
        with moved(SECOND, model, empty):
            assert device_of(model) == SECOND
            assert device_of(empty) == compute.CPU
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert device_of(model) == compute.CPU
    assert torch.equal(model.weight, before)


def test_a_seed_holds_on_the_device_too_and_what_it_drew_before_goes_on() -> None:
    inputs = torch.ones(100, device=SECOND)
    dropout = nn.Dropout(0.5)
    before = generator_state(SECOND)
    with seeded(7, SECOND):
        first = dropout(inputs).cpu()
        assert not torch.equal(generator_state(SECOND), before)
    assert torch.equal(generator_state(SECOND), before)
    other = dropout(inputs).cpu()
    with seeded(7, SECOND):
        again = dropout(inputs).cpu()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_full_gpu_is_one_line_with_a_way_out() -> None:
    line = r"^the GPU's memory is full; use .* or device=cpu$"
    with pytest.raises(FedliteError, match=line), memory_explained():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
