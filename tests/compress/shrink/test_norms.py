"""Norms are folded into convolutions on public data, and the student stays what it was."""

import copy
import dataclasses

import onnx
import pytest
import torch
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.norms import fit_convolution, fold_norms, foldable_norms
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, PublicData
from fedlite.distill.evaluate import evaluate_model, predict_logits
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from tests.compress.conftest import CNN, MLP, MOBILENET, SHAPE
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped
from tests.training import train_on_labels

CONFIG = CompressOptions(norm_steps=60)
NORMS = (nn.GroupNorm, nn.modules.batchnorm._NormBase)


def with_kwargs(config, **kwargs):
    return ModelOptions(config.name, config.module, {**config.kwargs, **kwargs})


def has_norms(model):
    return any(isinstance(module, NORMS) for module in model.modules())


def fold(model, digits, config=CONFIG, **kwargs):
    return fold_norms(model, digits.task, digits.public, config, AugmentOptions(), 0, **kwargs)


@pytest.fixture(scope="module")
def mobilenet(digits):
    """A student with GroupNorm that knows the digits, in eval mode."""
    model = build_model(MOBILENET, shaped(SHAPE, 10), seed=0)
    return train_on_labels(model, digits.public, steps=200, learning_rate=1e-2)


@pytest.fixture(scope="module")
def folded(mobilenet, digits):
    return fold(mobilenet, digits)


def signal_to_noise(model, reference, inputs):
    """Power of the reference's logits over that of the difference, in dB."""
    expected, found = predict_logits(reference, inputs), predict_logits(model, inputs)
    return 10 * torch.log10(expected.square().sum() / (found - expected).square().sum()).item()


class Odd(nn.Module):
    """Norms in unusual places: only ``first`` and ``crosswise`` belong to a convolution alone."""

    def __init__(self):
        super().__init__()
        self.crosswise = nn.GroupNorm(2, 4)
        self.first = nn.InstanceNorm2d(4, affine=True)
        self.a, self.b, self.c = (nn.Conv2d(i, 4, 3) for i in (1, 4, 4))
        self.d, self.e = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.on_a_sum, self.read_twice, self.run_twice = (nn.GroupNorm(2, 4) for _ in range(3))
        self.without_affine = nn.GroupNorm(2, 4, affine=False)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = torch.relu(self.first(self.a(x)))
        x = self.crosswise(self.b(x)).relu()
        y = self.c(x)
        x = self.on_a_sum(self.read_twice(y) + y)
        x = self.run_twice(self.d(self.run_twice(self.d(x))))
        return self.head(self.without_affine(self.e(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (with_kwargs(CNN, norm="group"), ["features.1", "features.5"]),
        (with_kwargs(MOBILENET, channels=(8,), depths=(1,)),
         ["stem.1", "blocks.0.body.1", "blocks.0.body.4", "blocks.0.body.7", "neck.1"]),
        (with_kwargs(CNN, norm="weight"), []),
        (MLP, []),
        (ModelOptions("transformer", "fedlite.models.transformer.Transformer"), []),
    ],
)  # fmt: skip
def test_foldable_norms_are_named_in_running_order(config, names):
    assert foldable_norms(build_model(config, shaped(SHAPE, 10), seed=0), shaped(SHAPE)) == names


def test_only_a_norm_that_is_alone_with_its_convolution_is_foldable():
    assert foldable_norms(Odd(), shaped(SHAPE)) == ["first", "crosswise"]


def test_a_folded_student_has_no_norms_and_answers_alike(mobilenet, folded, digits):
    before = evaluate_model(mobilenet, digits.test, 10).accuracy
    assert before > 0.9
    assert type(folded) is type(mobilenet)
    assert not has_norms(folded)
    assert not folded.training
    assert evaluate_model(folded, digits.test, 10).accuracy > before - 0.02
    assert all(parameter.requires_grad for parameter in folded.parameters())


def test_the_fit_alone_comes_near_and_distillation_comes_nearer(mobilenet, folded, digits):
    fitted = fold(mobilenet, digits, CompressOptions(norm_steps=0))
    without = copy.deepcopy(mobilenet)
    for name in foldable_norms(mobilenet, shaped(SHAPE)):
        without.set_submodule(name, nn.Identity())
    found = [
        signal_to_noise(model, mobilenet, digits.test.inputs) for model in (without, fitted, folded)
    ]
    assert found[0] < 5 < found[1] < found[2]


def test_the_student_stays_and_equal_calls_give_equal_results(mobilenet, digits):
    before = copy.deepcopy(mobilenet.state_dict())
    steps = []
    config = CompressOptions(norm_steps=3)
    first = fold(mobilenet, digits, config, on_step=steps.append)
    torch.manual_seed(5)
    second = fold(mobilenet, digits, config)
    assert steps == [1, 2, 3]
    for name, tensor in mobilenet.state_dict().items():
        assert torch.equal(tensor, before[name])
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


@pytest.mark.parametrize("config", [CNN, MOBILENET], ids=lambda config: config.name)
def test_standardised_weights_are_baked_without_any_training(config, digits):
    student = build_model(with_kwargs(config, norm="weight"), shaped(SHAPE, 10), seed=0).eval()
    steps = []
    baked = fold(student, digits, on_step=steps.append)
    assert steps == []
    assert {type(m) for m in baked.modules() if hasattr(m, "kernel_size")} <= {
        nn.Conv2d,
        nn.MaxPool2d,
    }
    inputs = digits.test.inputs
    torch.testing.assert_close(
        predict_logits(baked, inputs), predict_logits(student, inputs), atol=1e-5, rtol=1e-5
    )


def test_batch_norms_are_folded_exactly(digits):
    student = build_model(with_kwargs(CNN, norm="batch"), shaped(SHAPE, 10), seed=0)
    student(digits.public.inputs)  # statistics of its own
    folded = fold(student, digits)
    assert not has_norms(folded)
    inputs = digits.test.inputs
    torch.testing.assert_close(predict_logits(folded, inputs), predict_logits(student, inputs))


def test_norms_of_series_are_folded_too(digits):
    shape = (4, 16)
    series = PublicData(digits.public.inputs.reshape(-1, *shape), digits.public.labels)
    task = dataclasses.replace(digits.task, input_shape=shape)
    student = build_model(with_kwargs(CNN, norm="group"), shaped(shape, 10), seed=0)
    folded = fold_norms(student, task, series, CompressOptions(norm_steps=0), AugmentOptions(), 0)
    assert not has_norms(folded)
    assert signal_to_noise(folded, student, series.inputs) > 10


def test_a_student_with_nothing_to_fold_comes_back_equal(student, digits):
    folded = fold(student, digits)
    assert folded is not student
    inputs = digits.test.inputs[:50]
    torch.testing.assert_close(
        predict_logits(folded, inputs), predict_logits(student, inputs), rtol=0, atol=0
    )


def test_private_data_is_a_type_error(mobilenet, digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="only PublicData"):
        fold_norms(mobilenet, digits.task, private, CONFIG, AugmentOptions(), 0)


def test_a_model_that_cannot_be_traced_is_one_clear_line():
    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(FedliteError, match=r"Branching: its norms .* use compress.norms=keep$"):
        foldable_norms(Branching(4, 4), shaped((4,)))


def test_a_folded_student_is_pruned_saved_loaded_and_exported(folded, digits, tmp_path):
    pruned = prune_channels(folded, SHAPE, 0.5, 4)
    save_pruned(pruned, tmp_path / "pruned.pt")
    loaded = load_pruned(tmp_path / "pruned.pt", MOBILENET, shaped(SHAPE, 10))
    inputs = digits.test.inputs[:20]
    torch.testing.assert_close(predict_logits(loaded, inputs), predict_logits(pruned, inputs))
    path = tmp_path / "folded.onnx"
    export_onnx(loaded, digits.task, path, opset=20)
    verify_onnx(loaded, path, inputs)
    operations = {node.op_type for node in onnx.load(path).graph.node}
    assert operations <= {"Conv", "Clip", "Add", "GlobalAveragePool", "ReduceMean", "Reshape",
                          "Flatten", "Gemm"}  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "groups": 2},
        {"groups": 4, "stride": 2, "padding": 1},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dims", [1, 2])
def test_a_fit_finds_the_convolution_that_made_the_targets(dims, options):
    torch.manual_seed(0)
    cls = nn.Conv1d if dims == 1 else nn.Conv2d
    made, fitted = (cls(4, 8, 3, **options) for _ in range(2))
    inputs = torch.randn(100, 4, *[9] * dims)
    targets = made(inputs).detach() + 1
    fit_convolution(fitted, inputs, targets)
    torch.testing.assert_close(fitted(inputs), targets, atol=2e-2, rtol=0)


def test_a_fit_on_inputs_that_never_vary_stays_finite():
    layer = nn.Conv2d(2, 3, 3)
    fit_convolution(layer, torch.zeros(4, 2, 5, 5), torch.ones(4, 3, 3, 3))
    torch.testing.assert_close(
        layer(torch.zeros(1, 2, 5, 5)), torch.ones(1, 3, 3, 3), atol=1e-3, rtol=0
    )
