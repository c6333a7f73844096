"""What networks cost: FLOP of a forward pass, bytes of a state."""

import torch
from torch import nn

from fedlite.models.cost import forward_flops, state_bytes


def test_matrix_products_and_convolutions_are_counted_twice_for_each_product() -> None:
    assert forward_flops(nn.Linear(7, 5), torch.zeros(1, 7)) == 2 * 7 * 5
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert forward_flops(convolution, torch.zeros(1, 3, 10, 10)) == 2 * 3 * 8 * 9 * 100
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert forward_flops(depthwise, torch.zeros(1, 8, 10, 10)) == 2 * 8 * 9 * 100
    assert forward_flops(nn.Sequential(nn.GroupNorm(1, 4), nn.ReLU()), torch.zeros(1, 4, 5)) == 0


def test_counting_leaves_a_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Dropout(0.5))
    forward_flops(model, torch.zeros(1, 7))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_state_s_bytes_are_those_of_parameters_and_buffers() -> None:
    assert state_bytes(nn.Linear(7, 5)) == 4 * (7 * 5 + 5)
    assert state_bytes(nn.BatchNorm1d(6)) == 4 * 4 * 6 + 8
