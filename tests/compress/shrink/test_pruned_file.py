"""The file of a pruned model: widths, what was folded away, and weights."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.compress.shrink.sparsify import apply_masks, weight_masks
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.models.standardised import StandardisedConvolution
from tests.compress.conftest import CNN, MLP, MOBILENET, SHAPE
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped

MODELS = "fedlite.models"
NORMED = ModelOptions("cnn", CNN.module, {"norm": "group"})
CONFIGS = {
    "cnn": CNN,
    "normed": NORMED,
    "mobilenet": MOBILENET,
    "resnet": ModelOptions(
        "resnet", f"{MODELS}.resnet.ResNet", {"channels": [8, 16], "depths": [1, 1]}
    ),
    "mlp": MLP,
    "scattering": ModelOptions("scattering", f"{MODELS}.scattering.ScatteringCNN", {"mix": 16}),
    "transformer": ModelOptions("transformer", f"{MODELS}.transformer.Transformer", {"depth": 1}),
}
INPUTS = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    ratio=st.floats(min_value=0.3, max_value=0.8),
    sparsity=st.floats(min_value=0, max_value=0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_a_pruned_model_comes_back_from_its_file(tmp_path_factory, name, ratio, sparsity, seed):
    model = build_model(CONFIGS[name], shaped(SHAPE, 10), seed=seed)
    pruned = prune_channels(model, SHAPE, ratio, 2).eval()
    apply_masks(pruned, weight_masks(pruned, sparsity))
    path = tmp_path_factory.mktemp("pruned") / "pruned.pt"
    save_pruned(pruned, path)
    assert set(torch.load(path, weights_only=True)) == {"widths", "identities", "state_dict"}
    loaded = load_pruned(path, CONFIGS[name], shaped(SHAPE, 10))
    assert torch.equal(loaded(INPUTS), pruned(INPUTS))
    assert list(path.parent.iterdir()) == [path]


def test_a_model_without_its_norms_comes_back(tmp_path):
    """Folding leaves an identity in the norm's place and a bias in the convolution."""
    model = prune_channels(build_model(MOBILENET, shaped(SHAPE, 10), seed=0), SHAPE, 0.5, 4).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.GroupNorm):
            model.set_submodule(name, nn.Identity())
        elif isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.randn(module.out_channels))
    save_pruned(model, tmp_path / "folded.pt")
    loaded = load_pruned(tmp_path / "folded.pt", MOBILENET, shaped(SHAPE, 10))
    assert not any(isinstance(module, nn.GroupNorm) for module in loaded.modules())
    assert torch.equal(loaded(INPUTS), model(INPUTS))


@pytest.mark.parametrize("plain", [False, True])
def test_standardised_convolutions_come_back_as_they_were_saved(tmp_path, plain):
    config = ModelOptions("cnn", CNN.module, {"norm": "weight"})
    model = prune_channels(build_model(config, shaped(SHAPE, 10), seed=0), SHAPE, 0.5, 4).eval()
    if plain:
        for name, module in list(model.named_modules()):
            if isinstance(module, StandardisedConvolution):
                model.set_submodule(name, module.plain())
    save_pruned(model, tmp_path / "pruned.pt")
    loaded = load_pruned(tmp_path / "pruned.pt", config, shaped(SHAPE, 10))
    standardised = [isinstance(m, StandardisedConvolution) for m in loaded.modules()]
    assert any(standardised) == (not plain)
    assert torch.equal(loaded(INPUTS), model(INPUTS))


def test_saving_leaves_the_model_alone(tmp_path):
    model = build_model(CNN, shaped(SHAPE, 10), seed=0)
    before = copy.deepcopy(model.state_dict())
    save_pruned(model, tmp_path / "pruned.pt")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_files_that_hold_no_fitting_pruned_model_are_refused(student, tmp_path):
    path = tmp_path / "pruned.pt"
    with pytest.raises(UsageError, match="no such file"):
        load_pruned(path, CNN, shaped(SHAPE, 10))
    save_pruned(student, path)
    with pytest.raises(UsageError, match="does not fit model mlp"):
        load_pruned(path, MLP, shaped(SHAPE, 10))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FedliteError, match="damaged"):
        load_pruned(path, CNN, shaped(SHAPE, 10))
