"""Rule 7: no batch statistics, and no buffer that training changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedlite.errors import UsageError
from fedlite.privacy import check_private_model
from tests.privacy.world import ClientWorld


def net(*middle: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), *middle, nn.Flatten(), nn.Linear(4 * 36, 10)]
    return nn.Sequential(*layers)


class Centred(nn.Module):
    """Mixes rows without being any known layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(dim=0)


class Counting(nn.Module):
    """A buffer that follows the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += inputs.mean()
        return inputs


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.SyncBatchNorm(4),
        nn.BatchNorm2d(4).requires_grad_(requires_grad=False),
        nn.InstanceNorm2d(4, track_running_stats=True),
        Centred(),
        Counting(),
    ],
    ids=["batch", "no-affine", "no-tracking", "sync", "frozen", "instance", "centred", "counting"],
)
def test_planted_layers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UsageError, match="student"):
        check_private_model(net(layer), (1, 8, 8))


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.Tanh(), nn.Dropout(0.5)])
def test_separable_layers_pass_and_the_probe_leaves_no_trace(layer: nn.Module) -> None:
    model = net(layer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_private_model(model, (1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("student", ["cnn", "mobilenet", "mlp"])
def test_every_student_passes_and_training_changes_no_buffer(
    student: str, client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world(f"student={student}")
    check_private_model(world.student, (1, 8, 8))
    reply = world.train(1)
    sent = reply.content.array_records["arrays"]
    for name, buffer in world.student.named_buffers():
        assert torch.equal(torch.from_numpy(sent[name].numpy()), buffer)


def test_the_teacher_s_buffers_are_untouched(client_world: Callable[..., ClientWorld]) -> None:
    from fedlite.federation.node import Node

    world = client_world()
    world.train(1)
    held = Node.of(world.grid.contexts[2]).world._teacher(world.teacher_sha256)
    assert not held.training
    buffers = dict(held.named_buffers())
    assert buffers
    for name, buffer in world.teacher.named_buffers():
        assert torch.equal(buffer, buffers[name])
