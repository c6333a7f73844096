"""A student on fixed wavelet features: little to train, so DP-SGD's noise has little to drown."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation

KERNEL = 7
SIGMA, FREQUENCY, SLANT = 0.8, 0.75 * math.pi, 0.5  # of the wavelet, in pixels and radians a pixel


def morlet_bank(orientations: int) -> Tensor:
    """Real and imaginary parts (2 * orientations, 1, 7, 7) of one oriented Morlet wavelet.

    A plane wave under a Gaussian, less the part that answers to a constant image (Bruna and
    Mallat 2013, *Invariant scattering convolution networks*; the constants are Kymatio's for the
    finest scale). Angles are spread evenly over half a turn.
    """
    offsets = torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    wavelets = []
    for index in range(orientations):
        angle = math.pi * index / orientations
        along = columns * math.cos(angle) + rows * math.sin(angle)
        across = rows * math.cos(angle) - columns * math.sin(angle)
        envelope = torch.exp(-(along**2 + (SLANT * across) ** 2) / (2 * SIGMA**2))
        wave = torch.polar(envelope, FREQUENCY * along)
        wavelet = wave - envelope * (wave.sum() / envelope.sum())
        wavelets.append(wavelet * SLANT / (2 * math.pi * SIGMA**2))
    bank = torch.stack(wavelets)
    return torch.cat([bank.real, bank.imag])[:, None].float()


class Scattering(nn.Module):
    """Two octaves of wavelet moduli, pooled to a quarter of the image's side; nothing is learned.

    Of each input channel, (1 + orientations)^2 channels: the image, its moduli at full and at half
    resolution, and the moduli of the former (order 0, 1, 1 and 2 of a scattering transform; one
    bank serves both octaves because each follows a pooling by two). The filters are built from
    the number of orientations, so they are in no state dict and in no message; they run without
    gradients, so pruning, noise and averaging never meet them.
    """

    bank: Tensor

    def __init__(self, orientations: int) -> None:
        super().__init__()
        self.orientations = orientations
        self.register_buffer("bank", morlet_bank(orientations), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C * (1 + orientations)^2, ~H/4, ~W/4)."""
        half, fine = _halve(x), _halve(self._moduli(x))
        maps = [half, fine, self._moduli(half), self._moduli(fine)]
        return _halve(torch.cat(maps, dim=1))

    def _moduli(self, x: Tensor) -> Tensor:
        """Size of every wavelet's answer at every pixel: (n, C, H, W) to (n, C * L, H, W)."""
        parts = F.conv2d(x.flatten(0, 1)[:, None], self.bank, padding=KERNEL // 2)
        real, imaginary = parts.chunk(2, dim=1)
        moduli = torch.sqrt(real**2 + imaginary**2)
        return moduli.reshape(-1, x.shape[1] * self.orientations, *x.shape[2:])


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


class ScatteringCNN(nn.Module):
    """Scattering features, normalised per channel and example, then a small trained head.

    Tramer and Boneh 2021 (*Differentially private learning needs better features or much more
    data*): under DP-SGD at small epsilon, a linear model on scattering features beats networks
    trained from the pixels. With the defaults and a 28x28 image: 81 feature maps of 7x7 and
    39,700 parameters. Inputs (n, C, H, W); answers logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W), sides of 8 or more.
        num_classes: number of logits.
        orientations: angles of the wavelets; the cost of the features grows with their square.
        mix: channels of a 1x1 convolution before the linear layer; null for a linear head. With
            it the student is smaller and its channels can be pruned; without it there is nothing
            to prune and ``compress.ratio`` must be 0.
        activation: after the 1x1 convolution; see :data:`fedlite.models.layers.ACTIVATIONS`.

    Raises:
        ValueError: another kind of input, an image under 8 pixels, or no orientations.
    """

    fixed_front_end = True  # see fedlite.models.build.FixedFrontEnd

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        orientations: int = 8,
        mix: int | None = None,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise ValueError(
                "scattering needs images (C, H, W) with sides of 8 or more, not"
                f" {tuple(input_shape)}; use cnn or mlp"
            )
        if orientations < 1:
            raise ValueError(f"orientations={orientations}: must be 1 or more")
        self.scattering = Scattering(orientations)
        _, channels, height, width = self.scattering(torch.zeros(1, *input_shape)).shape
        self.norm = nn.GroupNorm(channels, channels, affine=False)
        layers: list[nn.Module] = []
        if mix is not None:
            layers = [nn.Conv2d(channels, mix, 1), build_activation(activation)]
            channels = mix
        layers += [nn.Flatten(), nn.Linear(channels * height * width, num_classes)]
        self.head: nn.Module = nn.Sequential(*layers)

    def features(self, inputs: Tensor) -> Tensor:
        """What no training changes: (n, C * (1 + orientations)^2, ~H/4, ~W/4)."""
        normalised: Tensor = self.norm(self.scattering(inputs))
        return normalised

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits
