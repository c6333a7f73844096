"""The transformer student: tokens, privacy, heads that are cut whole, its file and its export."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleHooks
from torch import nn

from fedlite.base.errors import UsageError
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import ModelOptions
from fedlite.models.transformer import MultiHeadAttention
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.probe import check_private_model
from tests.compress.shrink.pruning import prune_channels
from tests.privacy.world import batch, make_plan, update_of
from tests.tasks import shaped

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 9, 13), (9, 128))


@pytest.fixture
def small(model_config):
    """One block of three heads of four channels, as a configuration."""
    return model_config("student", "transformer", width=12, heads=3, depth=1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_answers_images_and_series_and_trains_privately(model_config, shape):
    model = build_model(model_config("student", "transformer"), shaped(shape, 7), seed=0)
    assert model(torch.randn(5, *shape)).shape == (5, 7)
    assert model(torch.randn(0, *shape)).shape == (0, 7)  # a Poisson sample may be empty
    assert list(model.buffers()) == []
    check_private_model(model, shaped(shape))


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [((1, 28, 28), None, 49), ((1, 8, 8), None, 16), ((9, 128), None, 16), ((1, 28, 28), 9, 9)],
    ids=str,
)
def test_inputs_are_cut_into_patches(model_config, shape, patch, tokens):
    model = build_model(
        model_config("student", "transformer", patch=patch), shaped(shape, 10), seed=0
    )
    assert model.position.num_embeddings == tokens


def test_size_on_28x28(model_config):
    model = build_model(model_config("student", "transformer"), shaped((1, 28, 28), 10), seed=0)
    assert count_parameters(model) == 41_674


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"width": 50, "heads": 4}, "width=50, heads=4: the width must be a multiple of heads"),
        ({"heads": 0}, "heads=0"),
        ({"patch": 9}, "patch=9: must be from 1 to 8"),
        ({"activation": "swish"}, "activation=swish"),
    ],
    ids=str,
)
def test_what_it_cannot_be_is_one_line(model_config, kwargs, says):
    with pytest.raises(UsageError, match=says):
        build_model(model_config("student", "transformer", **kwargs), shaped((1, 8, 8), 10), seed=0)


def test_flat_inputs_are_refused(model_config):
    with pytest.raises(UsageError, match="use mlp"):
        build_model(model_config("student", "transformer"), shaped((20,), 10), seed=0)


def test_attention_is_that_of_torch(small):
    """The same weights in ``torch.nn.MultiheadAttention`` give the same answer."""
    ours = MultiHeadAttention(width=12, heads=3)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        theirs.out_proj.load_state_dict(ours.project.state_dict())
    tokens = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_places_matter(small):
    model = build_model(small, shaped((1, 8, 8), 10), seed=0).eval()
    picture = torch.randn(1, 1, 8, 8)
    assert not torch.allclose(model(picture), model(picture.roll(2, dims=3)), atol=1e-4)
    with torch.no_grad():
        model.position.weight.zero_()
    torch.testing.assert_close(model(picture), model(picture.roll(2, dims=3)))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("shape", [(1, 8, 8), (9, 128)], ids=str)
def test_opacus_hooks_give_the_gradient_of_each_example(model_config, shape):
    model = build_model(model_config("student", "transformer"), shaped(shape, 4), seed=0)
    inputs, labels = torch.randn(3, *shape, requires_grad=True), torch.tensor([0, 1, 2])
    alone = torch.autograd.grad(
        nn.functional.cross_entropy(model(inputs[1:2]), labels[1:2]), list(model.parameters())
    )
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=True)
    torch.autograd.backward(nn.functional.cross_entropy(model(inputs), labels, reduction="sum"))
    for parameter, expected in zip(model.parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad_sample[1], expected, rtol=1e-3, atol=1e-5)
    hooks.cleanup()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_in_dp_sgd_an_outlier_moves_the_sum_by_at_most_the_clip_norm(model_config, scale, engine):
    model = build_model(model_config("student", "transformer"), shaped((1, 8, 8), 10), seed=0)
    inputs, labels = batch((1, 8, 8), 9, 0)
    inputs[-1] *= scale
    plan = make_plan(max_grad_norm=1.0)

    def update(count):
        return update_of(model, inputs[:count], labels[:count], plan, engine=ENGINES[engine])

    moved = update(9) - update(8)
    assert 0 < float(moved.norm()) <= 1.0 + 1e-4


def test_the_weakest_head_goes_whole(small):
    model = build_model(small, shaped((1, 8, 8), 10), seed=0).eval()
    attention = model.blocks[0].attention
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight[4:8] *= 1e-3
        attention.project.weight[:, 4:8] *= 1e-3
    pruned = cut_channels(model, shaped((1, 8, 8)), {"blocks.0.attention.query": 8}, Criterion())
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    cut = pruned.blocks[0].attention
    assert cut.head_width == 4
    for name in ("query", "key", "value"):
        before, after = getattr(attention, name), getattr(cut, name)
        assert torch.equal(after.weight, before.weight[kept])
    assert torch.equal(cut.project.weight, attention.project.weight[:, kept])
    inputs = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        attention.project.weight[:, 4:8] = 0  # what a head does that is not there
        torch.testing.assert_close(pruned(inputs), model(inputs))


@given(ratio=st.floats(0.2, 0.9), round_to=st.sampled_from([1, 2, 4]))
@settings(max_examples=15)
def test_any_ratio_leaves_whole_heads_and_a_network_that_runs(ratio, round_to):
    config = ModelOptions(
        "t", "fedlite.models.transformer.Transformer", {"width": 40, "heads": 5, "depth": 2}
    )
    shape = (2, 32)
    model = build_model(config, shaped(shape, 6), seed=0)
    pruned = prune_channels(model, shape, ratio, round_to)
    assert pruned(torch.randn(3, *shape)).shape == (3, 6)
    heads = max(1, round(5 * (1 - ratio)))
    for block in pruned.blocks:
        attention = block.attention
        for layer in (attention.query, attention.key, attention.value):
            assert layer.out_features == heads * 8
        assert attention.project.in_features == heads * 8
        assert abs(block.hidden[0].out_features - 80 * (1 - ratio)) <= round_to / 2 + 1e-9
    assert pruned.embed.out_channels == pruned.head.in_features == pruned.position.embedding_dim


@pytest.mark.parametrize(
    ("layer", "kept"),
    [
        ("blocks.0.attention", {"heads": 1}),
        ("blocks.0.hidden", {"hidden": 12}),
        ("embed", {"width": 8}),
    ],
    ids=str,
)
def test_heads_hidden_layers_and_the_width_are_cut_on_their_own(small, layer, kept):
    model = build_model(small, shaped((1, 8, 8), 10), seed=0)
    ratio = {"blocks.0.attention": 0.6, "blocks.0.hidden": 0.5, "embed": 0.33}[layer]
    pruned = prune_channels(model, (1, 8, 8), 0.0, 4, {layer: ratio})
    block = pruned.blocks[0]
    assert {
        "heads": block.attention.query.out_features // 4,
        "hidden": block.hidden[0].out_features,
        "width": pruned.embed.out_channels,
    } == {"heads": 3, "hidden": 24, "width": 12} | kept


def test_names_of_coupled_layers_are_explained(small):
    model = build_model(small, shaped((1, 8, 8), 10), seed=0)
    for name, first in [
        ("blocks.0.attention.key", "blocks.0.attention.query"),
        ("blocks.0.attention.project", "embed"),
    ]:
        with pytest.raises(UsageError, match=f"together with those of {first};"):
            plan_widths(model, shaped((1, 8, 8)), 0.0, 4, {name: 0.5})


@pytest.mark.parametrize("shape", [(1, 8, 8), (9, 128)], ids=str)
def test_pruned_it_comes_back_from_its_file(model_config, shape, tmp_path):
    config = model_config("student", "transformer")
    pruned = prune_channels(build_model(config, shaped(shape, 7), seed=0), shape, 0.5, 4).eval()
    save_pruned(pruned, tmp_path / "pruned.pt")
    loaded = load_pruned(tmp_path / "pruned.pt", config, shaped(shape, 7))
    inputs = torch.randn(5, *shape)
    assert torch.equal(loaded(inputs), pruned(inputs))


def test_pruned_it_exports_with_any_batch(small, tmp_path):
    shape = (1, 8, 8)
    pruned = prune_channels(build_model(small, shaped(shape, 7), seed=0), shape, 0.5, 4).eval()
    export_onnx(pruned, shaped(shape, 7), tmp_path / "pruned.onnx", opset=20)
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx")
    inputs, name = torch.randn(5, *shape), session.get_inputs()[0].name
    with torch.no_grad():
        expected = pruned(inputs).numpy()
    for size in (1, 5):
        (answer,) = session.run(None, {name: inputs[:size].numpy()})
        np.testing.assert_allclose(answer, expected[:size], atol=1e-4)
