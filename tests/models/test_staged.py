"""The student made of stages: its geometry, its errors, and the search space as a whole."""

import io
import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from fedlite.base.errors import UsageError
from fedlite.models.blocks.channel_shuffle import ChannelShuffle
from fedlite.models.blocks.inverted_residual import InvertedResidual
from fedlite.models.blocks.plain import Plain
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import BLOCKS
from fedlite.models.staged import StagedNet
from fedlite.privacy.probe import check_private_model
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped

SHAPE = (1, 12, 12)


def stage(block: str = "plain", width: int = 8, depth: int = 1, kernel_size: int = 3):
    return {"block": block, "width": width, "depth": depth, "kernel_size": kernel_size}


def test_stages_hold_what_they_say(model_config):
    stages = [stage("plain", 8, 1, 5), stage("inverted_residual", 12, 3), stage("channel_shuffle")]
    config = model_config("student", "staged", stages=stages, stem=4)
    model = build_model(config, shaped((3, 32, 32), 10), seed=0)
    assert isinstance(model, StagedNet)
    found = [[type(block) for block in built] for built in model.stages]
    assert found == [[Plain], [InvertedResidual] * 3, [ChannelShuffle]]
    assert model.stem[0].weight.shape == (4, 3, 3, 3)
    assert model.stages[0][0][0].weight.shape == (8, 4, 5, 5)
    with torch.no_grad():
        assert model.stages(model.stem(torch.zeros(1, 3, 32, 32))).shape == (1, 8, 4, 4)


@pytest.mark.parametrize("stem", [None, 8])
@pytest.mark.parametrize("norm", ["weight", "group", None])
@pytest.mark.parametrize("blocks", itertools.permutations(BLOCKS.names(), 2), ids="-".join)
def test_every_order_of_blocks_can_be_trained_privately(model_config, blocks, norm, stem):
    stages = [stage(block, width, 2) for block, width in zip(blocks, (8, 12), strict=True)]
    config = model_config("student", "staged", stages=stages, norm=norm, stem=stem)
    for shape in (SHAPE, (9, 40)):
        check_private_model(build_model(config, shaped(shape, 3), seed=0), shaped(shape))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (stage("dense"), r"stages\[1\].block=dense: must be one of channel_shuffle, inverted_r"),
        (stage(kernel_size=4), r"stages\[1\].kernel_size=4: must be odd"),
        (stage(depth=0), r"stages\[1\].*width and depth must be 1 or more"),
        (stage("channel_shuffle", 9), "channel_shuffle of width 9: must be even"),
        ({"block": "plain"}, "needs exactly block, depth, kernel_size, width"),
    ],
)
def test_a_wrong_stage_is_named(model_config, broken, message):
    config = model_config("student", "staged", stages=[stage(), broken])
    with pytest.raises(UsageError, match=message):
        build_model(config, shaped(SHAPE, 3), seed=0)


class Doubled(Plain):
    """A block of one's own."""

    def __init__(self, *args, kernel_size, expansion, **kwargs):
        super().__init__(*args, kernel_size=2 * kernel_size - 1, **kwargs)


def test_a_block_of_ones_own_is_named_by_its_path(model_config):
    stages = [stage(f"{__name__}.Doubled", 8, 2)]
    config = model_config("student", "staged", stages=stages)
    model = build_model(config, shaped(SHAPE, 3), seed=0)
    assert [type(block) for block in model.stages[0]] == [Doubled] * 2
    assert model.stages[0][0][0].weight.shape == (8, 16, 5, 5)
    config = model_config("student", "staged", stages=[stage(f"{__name__}.Tripled")])
    with pytest.raises(UsageError, match=r"search_student.blocks=.*Tripled: cannot import"):
        build_model(config, shaped(SHAPE, 3), seed=0)


def test_no_stages_are_refused(model_config):
    with pytest.raises(UsageError, match=r"stages=.*: needs one or more"):
        build_model(model_config("student", "staged", stages=[]), shaped(SHAPE, 3), seed=0)


def test_all_blocks_export_with_a_dynamic_batch(model_config):
    stages = [stage("plain"), stage("inverted_residual"), stage("channel_shuffle", 12, 2)]
    config = model_config("student", "staged", stages=stages)
    model = build_model(config, shaped(SHAPE, 3), seed=0).eval()
    program = torch.onnx.export(
        model,
        (torch.zeros(2, *SHAPE),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=20,
        verbose=False,
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    batch = torch.randn(5, *SHAPE)
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_allclose(answer, model(batch).detach().numpy(), atol=1e-4)


def test_plain_and_inverted_residual_stages_lose_channels(model_config):
    stages = [stage("plain", 16, 2), stage("inverted_residual", 24, 2)]
    config = model_config("student", "staged", stages=stages, norm="group")
    model = build_model(config, shaped(SHAPE, 3), seed=0).eval()
    pruned = prune_channels(model, SHAPE, 0.5, 4)
    assert count_parameters(pruned) < 0.5 * count_parameters(model)
    assert pruned(torch.randn(2, *SHAPE)).shape == (2, 3)


def test_the_default_is_small(model_config):
    model = build_model(model_config("student", "staged"), shaped((1, 28, 28), 10), seed=0)
    assert count_parameters(model) < 30_000
    assert not any(isinstance(module, nn.GroupNorm) for module in model.modules())
