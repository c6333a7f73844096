"""Networks for texts: what they take, what they are refused for, and that they can ship."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedlite.base.errors import UsageError
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.options import CompressOptions
from fedlite.compress.probe import check_cut
from fedlite.data.types import Task
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.serve.tokens import PAD
from tests.tasks import shaped, texts

Configured = Callable[..., ModelOptions]
NAMES = ("text_bag", "text_cnn", "text_transformer")


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_nothing_and_of_the_last_token_is_answered(
    name: str, model_config: Configured
) -> None:
    task = texts()
    model = build_model(model_config("student", name), task, seed=0).eval()
    assert task.vocabulary is not None
    tokens = torch.full((2, 6), PAD)
    tokens[1] = task.vocabulary - 1
    answers = model(tokens)
    assert answers.shape == (2, 3)
    assert torch.isfinite(answers).all()


def test_a_bag_knows_neither_order_nor_filling(model_config: Configured) -> None:
    model = build_model(model_config("student", "text_bag"), texts(), seed=0).eval()
    one, other = (
        torch.tensor([[3, 5, PAD, PAD, PAD, PAD]]),
        torch.tensor([[PAD, PAD, 5, PAD, 3, PAD]]),
    )
    torch.testing.assert_close(model(one), model(other))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_cut_and_exported(name: str, tmp_path: Path, model_config: Configured) -> None:
    task = texts()
    config = CompressOptions(ratio=0.5, round_to=4)
    model = build_model(model_config("student", name), task, seed=0)
    cut = check_cut(model, task, config)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.parameters())
    export_onnx(cut, task, tmp_path / "cut.onnx", config.opset)
    inputs = task.random(9, torch.Generator().manual_seed(1))
    assert verify_onnx(cut, tmp_path / "cut.onnx", inputs) < 1e-4


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("text_cnn", shaped((1, 8, 8)), r"is for texts \(dataset=text\), and this data set holds"),
        ("mlp", texts(), "is not for texts; take text_cnn, text_bag or text_transformer"),
    ],
)
def test_texts_and_numbers_are_told_apart(
    name: str, task: Task, said: str, model_config: Configured
) -> None:
    with pytest.raises(UsageError, match=said):
        build_model(model_config("student", name), task, seed=0)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [({"kernel_sizes": [2]}, "must be odd"), ({"activation": "none"}, "must be one of")],
)
def test_what_cannot_be_built_is_said(kwargs: dict[str, object], said: str) -> None:
    config = ModelOptions("text_cnn", "fedlite.models.text.TextCNN", kwargs)
    with pytest.raises(UsageError, match=said):
        build_model(config, texts(), seed=0)
