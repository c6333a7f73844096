"""Graphs that suit integer kernels: what they compute stays, and what they hold changes."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.files import write_onnx
from fedlite.compress.onnx.integer_graph import fill_depthwise, layers_in_float
from fedlite.compress.onnx.quantize import quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.data.types import PublicData
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.conftest import Digits


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


class Tied(nn.Module):
    """The pointwise convolutions before and after the depthwise one share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(1, 20, 3, padding=1), nn.Conv2d(20, 20, 1)
        self.depthwise = nn.Conv2d(20, 20, 3, padding=1, groups=20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(self.point(torch.relu(self.stem(x)))))
        return self.head(self.point(x).mean((2, 3)))


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
    ("make", "filled"),
    [
        (partial(Depthwise, 20), 32),
        (partial(Depthwise, 24, nn.Sigmoid), 32),
        (partial(Depthwise, 8, nn.Identity), 16),
        (partial(Depthwise, 32), 32),
        (Tied, 32),
    ],
)
def test_depthwise_channels_are_filled_up_and_results_stay(digits: Digits, tmp_path, make, filled):
    torch.manual_seed(0)
    source, target = tmp_path / "source.onnx", tmp_path / "filled.onnx"
    model = exported(make(), digits, source)
    fill_depthwise(model.graph)
    assert groups(model.graph) == [filled]
    write_onnx(model, target)
    onnx.checker.check_model(target, full_check=True)
    inputs = digits.test.inputs.numpy()
    wanted, found = (logits_of(open_runtime(path), inputs) for path in (source, target))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_new_channels_leave_the_middle_of_the_values_where_it_was(digits: Digits, tmp_path):
    """They are calibrated like the others, so 1 percent of all values stays 1 percent."""
    torch.manual_seed(0)
    source, target = tmp_path / "source.onnx", tmp_path / "int8.onnx"
    config = CompressOptions(quantization="static", calibration="percentile", percentile=99)
    inputs = digits.test.inputs.numpy()
    found = {}
    for wide in (4, 16):
        narrow = Depthwise(4)
        if wide == 16:  # the same network, filled by hand
            narrow = widened(narrow)
        export_onnx(narrow.eval(), digits.task, source, 20)
        quantize_onnx(source, target, config, digits.public)
        found[wide] = logits_of(open_runtime(target), inputs)
        torch.manual_seed(0)
    np.testing.assert_allclose(found[4], found[16], atol=1e-5)


def widened(model: Depthwise) -> Depthwise:
    """Four channels within become sixteen; each quartet gives a quarter of the sum."""
    wide = Depthwise(16)
    values = model.state_dict()
    for name, value in values.items():
        if name.startswith(("body.0", "body.2")):
            values[name] = torch.cat([value] * 4)
    values["body.4.weight"] = torch.cat([values["body.4.weight"] / 4] * 4, dim=1)
    wide.load_state_dict(values)
    return wide


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
    config = CompressOptions(quantization="static")
    quantize_onnx(tmp_path / "source.onnx", tmp_path / "q.onnx", config, public)
    graph = onnx.load(tmp_path / "q.onnx").graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    widened = [node.input for node in graph.node if node.op_type == "DequantizeLinear"]
    assert {len(inputs) for inputs in widened if inputs[0] in constants} == {2}
    assert {len(inputs) for inputs in widened if inputs[0] not in constants} == {3}
