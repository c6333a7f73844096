"""Every student and teacher of conf/: shapes, sizes, DP-SGD hooks, export, pruning."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
import torch_pruning
from opacus.grad_sample import GradSampleHooks
from torch import nn

from fedlite.models.build import build_model, count_parameters
from fedlite.privacy.probe import check_private_model
from tests.tasks import shaped

STUDENTS = ("cnn", "mobilenet", "mlp", "staged")
TEACHERS = ("cnn", "resnet", "mlp")
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (9, 128))
NETWORKS = [("student", name) for name in STUDENTS] + [("teacher", name) for name in TEACHERS]
BATCH_NORM = nn.modules.batchnorm._BatchNorm


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("group", "name"), NETWORKS)
def test_every_network_answers_every_kind_of_input(model_config, group, name, shape):
    model = build_model(model_config(group, name), shaped(shape, 7), seed=0)
    assert model(torch.randn(5, *shape)).shape == (5, 7)


def test_mlp_takes_flat_inputs(model_config):
    model = build_model(model_config("student", "mlp"), shaped((20,), 3), seed=0)
    assert model(torch.randn(5, 20)).shape == (5, 3)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_is_a_function_of_each_row_and_has_no_buffers(model_config, name):
    model = build_model(model_config("student", name), shaped((1, 8, 8), 10), seed=0)
    assert not any(isinstance(module, BATCH_NORM) for module in model.modules())
    assert list(model.buffers()) == []
    inputs = torch.randn(4, 1, 8, 8)
    changed = torch.cat([100 * torch.randn(1, 1, 8, 8), inputs[1:]])
    torch.testing.assert_close(model(inputs)[1:], model(changed)[1:])


@pytest.mark.parametrize(
    ("name", "low", "high"), [("cnn", 20_000, 40_000), ("mobilenet", 60_000, 100_000)]
)
def test_student_sizes_on_28x28(model_config, name, low, high):
    model = build_model(model_config("student", name), shaped((1, 28, 28), 10), seed=0)
    assert low <= count_parameters(model) <= high


def test_the_published_dp_sgd_network_is_the_default_and_can_be_spelt_out(model_config):
    spelt_out = {
        "channels": [16, 32],
        "kernel_sizes": [8, 4],
        "strides": [2, 2],
        "paddings": [2, 0],
        "pools": [2, 2],
        "pool_strides": [1, 1],
        "hidden": 32,
        "activation": "tanh",
    }
    default = build_model(model_config("student", "cnn"), shaped((1, 28, 28), 10), seed=0)
    explicit = build_model(
        model_config("student", "cnn", **spelt_out), shaped((1, 28, 28), 10), seed=0
    )
    assert count_parameters(default) == count_parameters(explicit) == 26_010
    inputs = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(default(inputs), explicit(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (9, 128)], ids=str)
@pytest.mark.parametrize("name", STUDENTS)
def test_opacus_hooks_give_the_gradient_of_each_example(model_config, name, shape):
    model = build_model(model_config("student", name), shaped(shape, 4), seed=0)
    inputs, labels = torch.randn(3, *shape, requires_grad=True), torch.tensor([0, 1, 2])
    alone = torch.autograd.grad(
        nn.functional.cross_entropy(model(inputs[1:2]), labels[1:2]), list(model.parameters())
    )
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=True)
    nn.functional.cross_entropy(model(inputs), labels, reduction="sum").backward()
    for parameter, expected in zip(model.parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad_sample[1], expected, rtol=1e-3, atol=1e-5)
    hooks.cleanup()


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_standardised_weights_take_the_place_of_norms(model_config, name):
    config = model_config("student", name, norm="weight")
    for shape in SHAPES:
        model = build_model(config, shaped(shape, 7), seed=0)
        assert not any(isinstance(module, nn.GroupNorm) for module in model.modules())
        check_private_model(model, shaped(shape))


def test_names_in_the_state_dict_of_mobilenet_stay(model_config):
    config = model_config("student", "mobilenet", channels=[8], depths=[1])
    state = build_model(config, shaped((1, 8, 8), 10), seed=0).state_dict()
    norm = ("weight", "bias")
    block = [("0", ("weight",)), ("1", norm), ("3", ("weight",)), ("4", norm), ("6", ("weight",))]
    assert list(state) == [
        "stem.0.weight",
        *(f"stem.1.{leaf}" for leaf in norm),
        *(f"blocks.0.body.{i}.{leaf}" for i, leaves in [*block, ("7", norm)] for leaf in leaves),
        "neck.0.weight",
        *(f"neck.1.{leaf}" for leaf in norm),
        *(f"head.{leaf}" for leaf in norm),
    ]


@pytest.mark.parametrize(
    ("name", "shape"), [("cnn", (1, 28, 28)), ("cnn", (9, 128)), ("mobilenet", (1, 8, 8))]
)
def test_pruned_students_export_to_onnx_with_a_dynamic_batch(model_config, name, shape):
    model = build_model(model_config("student", name), shaped(shape, 10), seed=0).eval()
    before = count_parameters(model)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    torch_pruning.pruner.BasePruner(
        model,
        torch.zeros(1, *shape),
        importance=torch_pruning.importance.MagnitudeImportance(),
        pruning_ratio=0.5,
        round_to=8,
        ignored_layers=[head],
    ).step()
    assert count_parameters(model) < 0.5 * before

    inputs = torch.randn(3, *shape)
    file = io.BytesIO()
    program = torch.onnx.export(
        model,
        (inputs,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=20,
        verbose=False,
    )
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    batch = torch.randn(5, *shape)
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_allclose(answer, model(batch).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("width", [8, 16, 40])
def test_mobilenet_groups_survive_pruning_to_multiples_of_four(model_config, width):
    config = model_config("student", "mobilenet", channels=[width] * 4)
    model = build_model(config, shaped((1, 8, 8), 10), seed=0).eval()
    torch_pruning.pruner.BasePruner(
        model,
        torch.zeros(1, 1, 8, 8),
        importance=torch_pruning.importance.MagnitudeImportance(),
        pruning_ratio=0.3,
        round_to=4,
        ignored_layers=[model.head],
    ).step()
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert all(module.num_channels % module.num_groups == 0 for module in norms)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
