"""What a network costs to run, counted on a blank example."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(model: nn.Module, example: Tensor) -> float:
    """FLOP of one forward pass over ``example`` (1, ...): 2 for each multiplication and addition
    of matrix products and convolutions. Norms and activations are not counted."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    model.train(was_training)
    return float(counter.get_total_flops())


def state_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, as they travel."""
    return sum(value.nbytes for value in model.state_dict().values())
