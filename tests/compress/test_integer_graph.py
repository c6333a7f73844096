"""Graphs that suit integer kernels: what they compute stays, and what they hold changes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fedlite.compress.export import export_onnx
from fedlite.compress.integer_graph import fill_depthwise, layers_in_float
from fedlite.compress.onnx_files import write_onnx
from fedlite.compress.quantize import quantize_onnx
from fedlite.compress.runtime import logits_of, open_runtime
from fedlite.config import CompressConfig
from fedlite.data.types import PublicData

from .conftest import Digits


class Depthwise(nn.Module):
    """An inverted residual of ``wide`` channels within, between two convolutions."""

    def __init__(self, wide: int, activation: type[nn.Module] = nn.ReLU6, inputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, 16, 3, padding=1)
        self.body = nn.Sequential(
            *(nn.Conv2d(16, wide, 1), activation()),
            *(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), activation()),
            nn.Conv2d(wide, 16, 1, bias=False),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head((x + self.body(x)).mean((2, 3)))


class Pooled(nn.Module):
    """One convolution, max pool and a hidden layer."""

    def __init__(self, hidden: int, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.hidden, self.head = nn.Linear(256, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


def exported(model: nn.Module, digits: Digits, path: Path) -> onnx.ModelProto:
    export_onnx(model.eval(), digits.task, path, 20)
    return onnx.load(path)


def groups(graph: onnx.GraphProto) -> list[int]:
    """Of the depthwise convolutions."""
    convs = [node for node in graph.node if node.op_type == "Conv"]
    return [a.i for node in convs for a in node.attribute if a.name == "group" and a.i > 1]


@pytest.mark.parametrize(
    ("wide", "filled", "activation"),
    [(20, 32, nn.ReLU6), (24, 32, nn.Sigmoid), (8, 16, nn.Identity), (32, 32, nn.ReLU6)],
)
def test_depthwise_channels_are_filled_up_and_results_stay(
    digits: Digits, tmp_path, wide, filled, activation
):
    torch.manual_seed(0)
    source, target = tmp_path / "source.onnx", tmp_path / "filled.onnx"
    model = exported(Depthwise(wide, activation), digits, source)
    fill_depthwise(model.graph)
    assert groups(model.graph) == [filled]
    write_onnx(model, target)
    onnx.checker.check_model(target, full_check=True)
    inputs = digits.test.inputs.numpy()
    wanted, found = (logits_of(open_runtime(path), inputs) for path in (source, target))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_depthwise_channels_that_others_read_stay_as_they_are(digits: Digits, tmp_path):
    """Here a sum reads them; the silu reads its input twice."""

    class Summed(Depthwise):
        def forward(self, x: Tensor) -> Tensor:
            x = self.body[:2](torch.relu(self.stem(x)))
            return self.head(self.body[4](x + self.body[2](x)).mean((2, 3)))

    for network in (Summed(20), Depthwise(20, nn.SiLU)):
        model = exported(network, digits, tmp_path / "source.onnx")
        before = model.SerializeToString(deterministic=True)
        fill_depthwise(model.graph)
        assert groups(model.graph) == [20]
        assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("network", "inputs", "expected"),
    [
        (Depthwise(32), 1, ["Conv", "Gemm"]),  # the convolution of the input, and the head
        (Depthwise(32, inputs=4), 4, ["Gemm"]),
        (nn.Sequential(nn.GroupNorm(1, 1), Depthwise(32)), 1, ["Conv", "Conv", "Gemm"]),
        (Pooled(16), 1, ["Gemm"]),
        (Pooled(64, classes=100), 1, []),
    ],
)
def test_layers_stay_in_float_where_integers_are_slower(tmp_path, network, inputs, expected):
    path, example = tmp_path / "model.onnx", torch.zeros(1, inputs, 8, 8)
    torch.onnx.export(network.eval(), (example,), path, dynamo=True, verbose=False)
    model = onnx.load(path)
    names = layers_in_float(model)
    assert [node.op_type for node in model.graph.node if node.name in names] == expected


def test_zero_points_of_weights_are_left_out(digits: Digits, tmp_path):
    torch.manual_seed(0)
    exported(Depthwise(32), digits, tmp_path / "source.onnx")
    public = PublicData(digits.public.inputs[:64], digits.public.labels[:64])
    config = CompressConfig(quantization="static")
    quantize_onnx(tmp_path / "source.onnx", tmp_path / "q.onnx", config, public)
    graph = onnx.load(tmp_path / "q.onnx").graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    widened = [node.input for node in graph.node if node.op_type == "DequantizeLinear"]
    assert {len(inputs) for inputs in widened if inputs[0] in constants} == {2}
    assert {len(inputs) for inputs in widened if inputs[0] not in constants} == {3}
