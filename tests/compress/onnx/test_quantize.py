"""Quantized files: smaller, nearly as good, calibrated on public data alone."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.quantize import float_ops, precision_of, quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.data.types import ClientData, PublicData, TestData
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.conftest import MOBILENET, SHAPE, Digits
from tests.int8 import needs_exact_int8
from tests.tasks import shaped

STATIC = CompressOptions(quantization="static")
DYNAMIC = CompressOptions(quantization="dynamic")
WEIGHTS = CompressOptions(quantization="weight_only")
INT4 = CompressOptions(quantization="weight_only", bits=4)
FP16 = CompressOptions(quantization="fp16")
NONE = CompressOptions(quantization="none")
MODES = {"static": STATIC, "dynamic": DYNAMIC, "int8": WEIGHTS, "int4": INT4, "fp16": FP16}


def logits(path: Path, inputs: Tensor) -> np.ndarray:
    return logits_of(open_runtime(path), inputs.numpy())


def accuracy(path: Path, data: PublicData | TestData) -> float:
    return float((logits(path, data.inputs).argmax(1) == data.labels.numpy()).mean())


def snr_db(path: Path, model: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        wanted = model(inputs).numpy()
    return float(
        10 * np.log10(np.square(wanted).sum() / np.square(logits(path, inputs) - wanted).sum())
    )


def without_norms(model: nn.Module) -> nn.Module:
    """``model`` as it is once its norms are folded: biases in their place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.bias = nn.Parameter(torch.zeros(child.out_channels))
    return model.eval()


class ChannelShuffle(nn.Module):
    """One unit as in ShuffleNetV2: half of the channels pass, then the halves are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = torch.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([kept[:, :, 1:-1, 1:-1], torch.relu(self.branch(changed))], dim=1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """One block over the pixels as tokens: embedding, attention, feed-forward, norms."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.position = nn.Parameter(torch.randn(64, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding((x.flatten(1) * 8 + 64).long().clamp(0, 255)) + self.position
        q, k, v = self.mix(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.out((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
        x = x + self.narrow(nn.functional.gelu(self.wide(self.norms[1](x))))
        return self.head(x.mean(1))


def exported(model: nn.Module, digits: Digits, folder: Path) -> Path:
    path = folder / "model.onnx"
    export_onnx(model.eval(), digits.task, path, 20)
    return path


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Transformer().eval()


@pytest.fixture(scope="module")
def transformer_path(transformer, digits: Digits, tmp_path_factory) -> Path:
    return exported(transformer, digits, tmp_path_factory.mktemp("transformer"))


@pytest.mark.parametrize(
    ("mode", "share", "least_snr"),
    [
        pytest.param("static", 0.34, 35, marks=needs_exact_int8),
        pytest.param("dynamic", 0.32, 40, marks=needs_exact_int8),
        ("int8", 0.32, 40),
        ("int4", 0.23, 22),
        ("fp16", 0.54, 65),
    ],
)
def test_each_mode_is_small_and_nearly_as_good(
    student, student_path, digits: Digits, tmp_path, mode, share, least_snr, capfd
):
    target = tmp_path / "quantized.onnx"
    quantize_onnx(student_path, target, MODES[mode], digits.public)
    assert target.stat().st_size <= share * student_path.stat().st_size
    full = accuracy(student_path, digits.test)
    assert full > 0.9
    assert accuracy(target, digits.test) > full - 0.01
    assert snr_db(target, student, digits.test.inputs) > least_snr
    many = logits(target, digits.test.inputs[:5])
    one = logits(target, digits.test.inputs[:1])
    if mode != "dynamic":  # its ranges are those of the whole batch
        np.testing.assert_allclose(one, many[:1], atol=1e-4)
    assert list(tmp_path.iterdir()) == [target]
    assert capfd.readouterr() == ("", "")


def test_none_is_a_copy(student_path, tmp_path):
    quantize_onnx(student_path, tmp_path / "copy.onnx", NONE, None)
    assert (tmp_path / "copy.onnx").read_bytes() == student_path.read_bytes()


def test_qat_quantizes_statically(student_path, digits: Digits, tmp_path):
    quantize_onnx(student_path, tmp_path / "static.onnx", STATIC, digits.public)
    qat = CompressOptions(quantization="qat")
    quantize_onnx(student_path, tmp_path / "qat.onnx", qat, digits.public)
    assert (tmp_path / "qat.onnx").read_bytes() == (tmp_path / "static.onnx").read_bytes()


def test_calibration_data_sets_the_ranges(student_path, digits: Digits, tmp_path):
    narrow = PublicData(digits.public.inputs * 0, digits.public.labels)
    quantize_onnx(student_path, tmp_path / "narrow.onnx", STATIC, narrow)
    quantize_onnx(student_path, tmp_path / "fit.onnx", STATIC, digits.public)
    assert accuracy(tmp_path / "narrow.onnx", digits.test) < accuracy(
        tmp_path / "fit.onnx", digits.test
    )


def test_percentiles_cut_off_what_lies_far_outside(student, student_path, digits, tmp_path):
    """One wild example of 257 (so in a last, smaller batch) ruins the extremes alone."""
    inputs = digits.public.inputs[:257].clone()
    inputs[-1] = 200.0
    wild = PublicData(inputs, digits.public.labels[:257])
    found = {}
    for calibration, percentile in (("minmax", 99.99), ("percentile", 99.0)):
        config = dataclasses.replace(STATIC, calibration=calibration, percentile=percentile)
        quantize_onnx(student_path, tmp_path / "q.onnx", config, wild)
        found[calibration] = snr_db(tmp_path / "q.onnx", student, digits.test.inputs)
    assert found["percentile"] > found["minmax"] + 10


def test_symmetric_ranges_centre_on_zero(student_path, digits: Digits, tmp_path):
    symmetric = dataclasses.replace(STATIC, symmetric=True)
    quantize_onnx(student_path, tmp_path / "symmetric.onnx", symmetric, digits.public)
    quantize_onnx(student_path, tmp_path / "affine.onnx", STATIC, digits.public)
    zero_points = {}
    for name in ("symmetric", "affine"):
        graph = onnx.load(tmp_path / f"{name}.onnx").graph
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        of_inputs = [n.input[2] for n in graph.node if n.op_type == "QuantizeLinear"]
        zero_points[name] = {int(constants[zero]) for zero in of_inputs}
    assert zero_points["symmetric"] == {128}
    assert zero_points["affine"] - {127, 128}


@pytest.mark.parametrize("mode", ["static", "dynamic", "int8"])
def test_one_scale_per_channel_survives_an_outlier_better(digits: Digits, tmp_path, mode):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        model[1].weight[3] *= 100
        model[3].weight[:, 3] /= 100
    source, found = exported(model, digits, tmp_path), {}
    for per_channel in (True, False):
        config = dataclasses.replace(MODES[mode], per_channel=per_channel)
        quantize_onnx(source, tmp_path / "q.onnx", config, digits.public)
        found[per_channel] = snr_db(tmp_path / "q.onnx", model, digits.test.inputs)
    assert found[True] > found[False] + 3


def test_equal_calibration_gives_equal_bytes(student_path, digits: Digits, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        quantize_onnx(student_path, tmp_path / name, STATIC, digits.public)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("kind", [ClientData, TestData, None])
def test_calibration_takes_public_data_alone(student_path, digits: Digits, tmp_path, kind):
    data = {
        ClientData: ClientData(0, digits.public.inputs, digits.public.labels),
        TestData: digits.test,
        None: None,
    }[kind]
    with pytest.raises(TypeError, match="PublicData"):
        quantize_onnx(student_path, tmp_path / "q.onnx", STATIC, data)
    assert list(tmp_path.iterdir()) == []


def test_float_ops_tell_what_the_runtime_left_in_float(student_path, digits: Digits, tmp_path):
    assert {"Conv", "Gemm"} <= set(float_ops(student_path))
    found = {}
    for mode, config in MODES.items():
        quantize_onnx(student_path, tmp_path / "q.onnx", config, digits.public)
        found[mode] = set(float_ops(tmp_path / "q.onnx"))
    assert found["static"] == {"Gemm (1 of 2)", "Tanh"}
    assert "Conv" in found["dynamic"]
    assert not any(name.startswith(("Gemm", "MatMul")) for name in found["dynamic"])
    for mode in ("int8", "int4", "fp16"):
        assert {"Conv", "Gemm"} <= found[mode]


def test_silu_is_no_integer_operator(digits: Digits, tmp_path):
    """The runtime calls its own form of it QuickGelu."""
    network = ModelOptions(MOBILENET.name, MOBILENET.module, {"activation": "silu", "norm": None})
    source = exported(build_model(network, shaped(SHAPE, 10), seed=0), digits, tmp_path)
    quantize_onnx(source, tmp_path / "q.onnx", MODES["fp16"], None)
    assert {"Conv", "Gemm", "QuickGelu"} <= set(float_ops(tmp_path / "q.onnx"))


def test_networks_without_norms_stay_in_integers_between_their_ends(digits: Digits, tmp_path):
    """Activations, sums, pools, splits and shuffles between layers too."""
    torch.manual_seed(0)
    mobilenet = without_norms(build_model(MOBILENET, shaped(SHAPE, 10), seed=0))
    for model, layers in ((mobilenet, 11), (ChannelShuffle(), 3)):
        source = exported(model, digits, tmp_path)
        quantize_onnx(source, tmp_path / "q.onnx", STATIC, digits.public)
        assert float_ops(tmp_path / "q.onnx") == [f"Conv (1 of {layers})", "Gemm"]
        assert snr_db(tmp_path / "q.onnx", model, digits.test.inputs) > 25


def test_networks_with_norms_keep_what_is_between_layers_in_float(digits: Digits, tmp_path):
    model = build_model(MOBILENET, shaped(SHAPE, 10), seed=0).eval()
    quantize_onnx(exported(model, digits, tmp_path), tmp_path / "q.onnx", STATIC, digits.public)
    left = set(float_ops(tmp_path / "q.onnx"))
    assert {"InstanceNormalization", "Mul", "Add", "Conv (4 of 11)"} <= left


@pytest.mark.parametrize(
    ("mode", "least_snr"),
    [
        pytest.param("static", 30, marks=needs_exact_int8),
        pytest.param("dynamic", 30, marks=needs_exact_int8),
        ("int8", 35),
        ("int4", 15),
    ],
)
def test_transformers_with_their_embedding(
    transformer, transformer_path, digits: Digits, tmp_path, mode, least_snr
):
    target = tmp_path / "q.onnx"
    quantize_onnx(transformer_path, target, MODES[mode], digits.public)
    assert target.stat().st_size < 0.34 * transformer_path.stat().st_size
    assert snr_db(target, transformer, digits.test.inputs) > least_snr
    left = set(float_ops(target))
    assert {"LayerNormalization", "Softmax"} <= left
    assert ("Gemm" in left) == (mode != "dynamic")


def test_precision_names_what_became_of_the_weights():
    assert [precision_of(config) for config in (NONE, FP16, STATIC, DYNAMIC, WEIGHTS, INT4)] == [
        *("fp32", "fp16", "int8", "int8", "int8 weights", "int4 weights")
    ]
    assert precision_of(CompressOptions(quantization="qat")) == "int8"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CompressOptions(quantization="int3"), "compress.quantization=int3: must be one of static"),
        (CompressOptions(quantization="weight_only", bits=3), "compress.bits=3: must be one of 8"),
        (CompressOptions(quantization="static", bits=4), "use compress.quantization=weight_only"),
    ],
)
def test_unknown_modes_and_bits_are_told(student_path, digits: Digits, tmp_path, config, message):
    with pytest.raises(UsageError, match=message):
        quantize_onnx(student_path, tmp_path / "q.onnx", config, digits.public)
    with pytest.raises(UsageError, match=message):
        precision_of(config)


def test_a_damaged_source_leaves_the_earlier_file(student_path, digits: Digits, tmp_path):
    target = tmp_path / "q.onnx"
    quantize_onnx(student_path, target, WEIGHTS, None)
    earlier = target.read_bytes()
    with pytest.raises(UsageError, match="no such file"):
        quantize_onnx(tmp_path / "none.onnx", target, STATIC, digits.public)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(FedliteError, match="damaged"):
        quantize_onnx(damaged, target, STATIC, digits.public)
    other = PublicData(torch.zeros(4, 3, 5, 5), torch.zeros(4, dtype=torch.long))
    with pytest.raises(FedliteError, match="quantization=static failed"):
        quantize_onnx(student_path, target, STATIC, other)
    assert target.read_bytes() == earlier
    assert {path.name for path in tmp_path.iterdir()} == {"q.onnx", "damaged.onnx"}


class Tied(nn.Module):
    """Two layers of one weight, the second read as it is or transposed."""

    def __init__(self, *, tied: bool, transposed: bool) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(64, 24), nn.Linear(24, 24)
        self.last, self.head = nn.Linear(24, 24), nn.Linear(24, 10)
        self.transposed = transposed
        with torch.no_grad():
            self.middle.weight.mul_(torch.linspace(0.3, 3, 24)[:, None])
            self.last.weight.copy_(self.middle.weight * (1 if tied else 1 + 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.middle(torch.tanh(self.first(x.flatten(1)))))
        x = x @ self.last.weight if self.transposed else self.last(x)
        return self.head(torch.tanh(x))


class TiedTable(nn.Module):
    """A table of tokens that is read as the weight of the last layer too."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 24), nn.Linear(24, 24)
        self.head = nn.Linear(24, 10, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(self.table.weight * (1 if tied else 1 + 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x.flatten(1).abs() * 3).long().clamp(0, 9)
        return self.head(torch.tanh(self.layer(self.table(tokens).mean(1))))


@pytest.mark.parametrize(
    "make",
    [
        lambda tied: Tied(tied=tied, transposed=False),
        lambda tied: Tied(tied=tied, transposed=True),
        lambda tied: TiedTable(tied=tied),
    ],
    ids=["twice", "transposed", "table"],
)
def test_tied_weights_keep_their_quality_in_dynamic_int8(make, tmp_path):
    inputs = torch.randn(200, 1, 8, 8)
    found = {}
    for tied in (True, False):
        torch.default_generator.manual_seed(3)
        model = make(tied).eval()
        export_onnx(model, shaped((1, 8, 8)), tmp_path / "plain.onnx", 20)
        quantize_onnx(tmp_path / "plain.onnx", tmp_path / "small.onnx", DYNAMIC, None)
        found[tied] = snr_db(tmp_path / "small.onnx", model, inputs)
    assert found[True] == pytest.approx(found[False], abs=1.0)
    assert found[True] > 10
