"""Quantization-aware training: int8 hurts the trained student less, in the file that ships."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.quantize import quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.qat import train_quantization_aware
from fedlite.compress.shrink.sparsify import apply_masks, count_nonzero, weight_masks
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, TestData
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.conftest import MLP, MOBILENET, SHAPE, Digits
from tests.tasks import shaped
from tests.training import train_on_labels

CONFIG = CompressOptions(
    quantization="qat", per_channel=False, qat_steps=100, qat_learning_rate=3e-3
)


def trained(student: nn.Module, digits: Digits, config=CONFIG, public=None, **options) -> nn.Module:
    public = digits.public if public is None else public
    return train_quantization_aware(
        student, student, digits.task, public, config, AugmentOptions(), 0, **options
    )


@pytest.fixture(scope="module")
def outlier(digits: Digits) -> nn.Module:
    """A network with one unit 200 times as large as the others, which one scale fits badly.

    The layer after it takes the factor back, so that its answers are those of a plain network.
    """
    network = ModelOptions(MLP.name, MLP.module, {"activation": "relu"})
    model = build_model(network, shaped(SHAPE, 10), seed=0)
    train_on_labels(model, digits.public, steps=300)
    first, second, _ = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight[3] *= 200
        first.bias[3] *= 200
        second.weight[:, 3] /= 200
    return model.eval()


def test_the_quantized_file_agrees_better_with_the_student(outlier, digits: Digits, tmp_path):
    with torch.no_grad():
        wanted = outlier(digits.public.inputs).numpy()
    agreement, snr_db = {}, {}
    for name, model in (("plain", outlier), ("trained", trained(outlier, digits))):
        export_onnx(model, digits.task, tmp_path / "fp32.onnx", 20)
        quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", CONFIG, digits.public)
        found = logits_of(open_runtime(tmp_path / "int8.onnx"), digits.public.inputs.numpy())
        agreement[name] = (found.argmax(1) == wanted.argmax(1)).mean()
        snr_db[name] = 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())
    assert agreement["plain"] < 0.85
    assert agreement["trained"] > agreement["plain"] + 0.1
    assert snr_db["trained"] > snr_db["plain"] + 3


def test_the_student_stays_and_the_copy_is_of_its_class(student, digits: Digits):
    before = copy.deepcopy(student.state_dict())
    steps: list[int] = []
    config = dataclasses.replace(CONFIG, qat_steps=3)
    found = trained(student, digits, config, on_step=steps.append)
    assert type(found) is type(student)
    assert not found.training
    assert steps == [1, 2, 3]
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    changed = found.state_dict()
    assert changed.keys() == before.keys()
    assert all(changed[name].shape == value.shape for name, value in before.items())
    assert not any(torch.equal(changed[name], value) for name, value in before.items())


def test_equal_seeds_give_equal_weights(digits: Digits):
    """A network with norms, depthwise layers and sums can be trained too."""
    student = build_model(MOBILENET, shaped(SHAPE, 10), seed=0).eval()
    config = CompressOptions(quantization="qat", symmetric=True, qat_steps=2)
    first, second = (trained(student, digits, config).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_series_and_embeddings_can_be_trained(digits: Digits):
    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 4)
            self.layer = nn.Conv1d(4, 8, 3, padding="same")
            self.head = nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = (x.flatten(1) * 4 + 16).long().clamp(0, 31)
            return self.head(self.layer(self.table(tokens).transpose(1, 2)).mean(2))

    model = Series().eval()
    found = trained(model, digits, dataclasses.replace(CONFIG, per_channel=True, qat_steps=2))
    before = model.state_dict()
    assert not any(torch.equal(before[name], value) for name, value in found.state_dict().items())


def test_it_takes_public_data_alone(student, digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    for data in (private, digits.test):
        assert isinstance(data, ClientData | TestData)
        with pytest.raises(TypeError, match="PublicData"):
            trained(student, digits, public=data)


def test_a_student_that_is_no_graph_is_told_in_one_line(digits: Digits):
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(1)
            return self.head(x if float(x.sum()) > 0 else -x)

    with pytest.raises(
        FedliteError, match=r"Fickle cannot be trained .*quantization=static"
    ) as told:
        trained(Fickle(), digits)
    assert "\n" not in str(told.value)


def test_pruned_weights_stay_zero(student: nn.Module, digits: Digits) -> None:
    sparse = copy.deepcopy(student)
    masks = weight_masks(sparse, 0.5)
    apply_masks(sparse, masks)
    made = trained(sparse, digits, dataclasses.replace(CONFIG, qat_steps=3))
    assert count_nonzero(made) <= count_nonzero(sparse) < 0.51 * count_nonzero(student)
    changed = [
        bool((one != two).any())
        for one, two in zip(made.parameters(), sparse.parameters(), strict=True)
    ]
    assert all(changed)
