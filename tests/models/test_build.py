"""build_model and load_state: seeds, and one clear line for each mistake."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.base.errors import UsageError
from fedlite.models.build import build_model, count_parameters, load_state
from fedlite.models.options import ModelOptions
from tests.tasks import shaped

MLP = "fedlite.models.mlp.MLP"


def mlp(**kwargs: object) -> ModelOptions:
    return ModelOptions("mlp", MLP, dict(kwargs))


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build_model(mlp(), shaped((4,), 3), seed=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    same, other = (
        build_model(mlp(), shaped((4,), 3), seed=5),
        build_model(mlp(), shaped((4,), 3), seed=6),
    )
    inputs = torch.randn(2, 4)
    assert torch.equal(first(inputs), same(inputs))
    assert not torch.equal(first(inputs), other(inputs))


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("MLP", "give the full path"),
        ("no.such.module.MLP", "no.such.module.MLP: cannot import"),
        ("fedlite.models.mlp.Perceptron", "Perceptron"),
        ("fedlite.models.layers.flat_size", "not a subclass"),
        ("torch.nn.Identity", "torch.nn.Identity"),
    ],
)
def test_a_wrong_class_is_one_line(module, says):
    with pytest.raises(UsageError, match=says) as caught:
        build_model(ModelOptions("custom", module, {}), shaped((1, 8, 8), 10), seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kwargs", "shape", "says"),
    [
        ("mlp.MLP", {"depth": 3}, (4,), "depth"),
        ("mlp.MLP", {"activation": "tan"}, (4,), "must be one of tanh"),
        ("mlp.MLP", {"hidden": [-1]}, (4,), "custom"),
        ("cnn.CNN", {}, (4,), "use mlp"),
        ("cnn.CNN", {"kernel_sizes": [3]}, (1, 8, 8), "one value per block, 2"),
        ("cnn.CNN", {"strides": [2, 2]}, (1, 8, 8), "need kernel_sizes"),
        ("cnn.CNN", {"kernel_sizes": [9, 9], "paddings": [0, 0]}, (1, 8, 8), "custom"),
        ("cnn.CNN", {"norm": "instance"}, (1, 8, 8), "norm=instance"),
        ("mobilenet.MobileNet", {"depths": [1]}, (1, 8, 8), "unequal lengths"),
        ("resnet.ResNet", {"depths": [1]}, (1, 8, 8), "unequal lengths"),
    ],
)
def test_wrong_arguments_are_one_line(name, kwargs, shape, says):
    with pytest.raises(UsageError, match=says) as caught:
        build_model(
            ModelOptions("custom", f"fedlite.models.{name}", kwargs), shaped(shape, 10), seed=0
        )
    assert "\n" not in str(caught.value)


def test_a_network_in_the_working_directory_is_found_and_its_answer_checked(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "class Headless(nn.Flatten):\n"
        "    def __init__(self, input_shape, num_classes):\n"
        "        super().__init__()\n"
    )
    monkeypatch.chdir(tmp_path)
    config = ModelOptions("custom", "own_networks.Headless", {})
    assert isinstance(build_model(config, shaped((1, 2, 2), 4), seed=0), nn.Module)
    with pytest.raises(UsageError, match=r"shape \(2, 10\), not \(2, 4\)"):
        build_model(config, shaped((1, 2, 2), 10), seed=0)


@given(hidden=st.lists(st.integers(1, 9), max_size=3), features=st.integers(1, 9))
@settings(max_examples=20)
def test_count_parameters_of_an_mlp(hidden, features):
    widths = [features, *hidden, 2]
    expected = sum((a + 1) * b for a, b in pairwise(widths))
    assert (
        count_parameters(build_model(mlp(hidden=hidden), shaped((features,), 2), seed=0))
        == expected
    )


def test_load_state_copies_every_array():
    source, target = (
        build_model(mlp(), shaped((4,), 3), seed=0),
        build_model(mlp(), shaped((4,), 3), seed=1),
    )
    load_state(target, source.state_dict(), "reply of client 3")
    inputs = torch.randn(2, 4)
    assert torch.equal(source(inputs), target(inputs))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("head.bias"), r"reply of client 3: head\.bias is missing.*\(3,\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"extra of shape \(1,\) is not in the model"),
        (
            lambda s: s.update({"head.weight": torch.zeros(3, 9)}),
            r"head\.weight has shape \(3, 9\); the model has \(3, 32\)",
        ),
        (
            lambda s: s.update({f"_module.{key}": s.pop(key) for key in list(s)}),
            r"hidden\.0\.weight is missing",
        ),
    ],
)
def test_load_state_names_the_first_difference(change, says):
    model = build_model(mlp(), shaped((4,), 3), seed=0)
    state = dict(model.state_dict())
    change(state)
    with pytest.raises(UsageError, match=says):
        load_state(model, state, "reply of client 3")
