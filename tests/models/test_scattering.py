"""The scattering student: fixed features, a small trained head, and its way through the system."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from opacus.grad_sample import GradSampleHooks
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.models.build import build_model, count_parameters, load_state
from fedlite.models.scattering import Scattering, morlet_bank
from fedlite.privacy.probe import check_private_model
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 9, 13))
HEADS = (None, 16)


def wave(angle: float, size: int = 28) -> torch.Tensor:
    """One picture (1, 1, size, size) of stripes across ``angle``, at the wavelets' frequency."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    phase = columns * math.cos(angle) + rows * math.sin(angle)
    return torch.cos(0.75 * math.pi * phase)[None, None]


@pytest.mark.parametrize("mix", HEADS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_answers_images_of_any_size_and_trains_privately(model_config, shape, mix):
    model = build_model(model_config("student", "scattering", mix=mix), shaped(shape, 7), seed=0)
    assert model(torch.randn(5, *shape)).shape == (5, 7)
    check_private_model(model, shaped(shape))


@pytest.mark.parametrize(("mix", "parameters"), [(None, 39_700), (16, 9_162)])
def test_sizes_on_28x28(model_config, mix, parameters):
    model = build_model(
        model_config("student", "scattering", mix=mix), shaped((1, 28, 28), 10), seed=0
    )
    assert count_parameters(model) == parameters


def test_only_the_trained_layers_travel_and_the_rest_is_rebuilt(model_config):
    config = model_config("student", "scattering", mix=16)
    model, other = (build_model(config, shaped((1, 28, 28), 10), seed=seed) for seed in (0, 1))
    assert set(model.state_dict()) == {
        "head.0.weight",
        "head.0.bias",
        "head.3.weight",
        "head.3.bias",
    }
    inputs = torch.randn(3, 1, 28, 28)
    assert not torch.equal(model(inputs), other(inputs))
    load_state(other, model.state_dict(), where="test")
    torch.testing.assert_close(model(inputs), other(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [((9, 128), {}), ((20,), {}), ((1, 7, 28), {}), ((1, 28, 28), {"orientations": 0})],
    ids=str,
)
def test_what_it_cannot_see_is_a_clear_error(model_config, shape, kwargs):
    with pytest.raises(UsageError, match=r"scattering needs images|orientations=0"):
        build_model(model_config("student", "scattering", **kwargs), shaped(shape, 10), seed=0)


def test_wavelets_answer_edges_and_not_brightness():
    bank = morlet_bank(8)
    assert bank.shape == (16, 1, 7, 7)
    torch.testing.assert_close(bank.sum(dim=(1, 2, 3)), torch.zeros(16), atol=1e-6, rtol=0)
    assert float(bank.square().sum()) > 0.1


@pytest.mark.parametrize("index", range(8))
def test_each_orientation_answers_its_own_stripes_most(index):
    fine = Scattering(8)(wave(math.pi * index / 8))[0, 1:9].mean(dim=(1, 2))
    assert int(fine.argmax()) == index


def test_features_hardly_move_with_a_shift_that_moves_every_pixel():
    picture = nn.functional.avg_pool2d(torch.randn(1, 1, 30, 30), 3, 1)
    shifted = picture.roll(1, dims=3)
    scattering = Scattering(8)

    def moved(first: torch.Tensor, second: torch.Tensor) -> float:
        return float((first - second).norm() / first.norm())

    features, of_shifted = scattering(picture)[:, 1:], scattering(shifted)[:, 1:]
    assert moved(features, of_shifted) < 0.5 * moved(picture, shifted)


@pytest.mark.parametrize("mix", HEADS)
def test_training_leaves_the_filters_alone(model_config, mix):
    model = build_model(
        model_config("student", "scattering", mix=mix), shaped((1, 28, 28), 10), seed=0
    )
    before = {name: value.clone() for name, value in model.named_buffers()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    nn.functional.cross_entropy(model(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    assert set(before) == {"scattering.bank"}
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("mix", HEADS)
def test_opacus_hooks_give_the_gradient_of_each_example(model_config, mix):
    model = build_model(
        model_config("student", "scattering", mix=mix), shaped((1, 8, 8), 4), seed=0
    )
    inputs, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    alone = torch.autograd.grad(
        nn.functional.cross_entropy(model(inputs[1:2]), labels[1:2]), list(model.parameters())
    )
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=True)
    torch.autograd.backward(nn.functional.cross_entropy(model(inputs), labels, reduction="sum"))
    for parameter, expected in zip(model.parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad_sample[1], expected, rtol=1e-3, atol=1e-5)
    hooks.cleanup()


def test_its_mixing_channels_can_be_pruned_saved_and_exported(model_config, tmp_path):
    config, shape = model_config("student", "scattering", mix=16), (1, 28, 28)
    task = shaped(shape, 10)
    pruned = prune_channels(build_model(config, task, seed=0), shape, 0.5, round_to=4)
    assert count_parameters(pruned) == 8 * 82 + 10 * (8 * 49 + 1)

    save_pruned(pruned, tmp_path / "pruned.pt")
    loaded = load_pruned(tmp_path / "pruned.pt", config, task)
    inputs = torch.randn(5, *shape)
    torch.testing.assert_close(loaded(inputs), pruned.eval()(inputs), rtol=0, atol=0)

    export_onnx(pruned, task, tmp_path / "pruned.onnx", opset=20)
    assert verify_onnx(pruned, tmp_path / "pruned.onnx", inputs) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx")
    flat = np.zeros((2, *shape), np.float32)  # an empty picture: no edge anywhere
    assert np.isfinite(session.run(None, {"input": flat})[0]).all()


def test_a_linear_head_alone_has_no_channel_to_prune(model_config):
    model = build_model(
        model_config("student", "scattering", mix=None), shaped((1, 8, 8), 10), seed=0
    )
    with pytest.raises(FedliteError, match=r"no layer can be cut .*compress\.ratio=0"):
        prune_channels(model, (1, 8, 8), 0.3, round_to=4)
