"""Augmentation of batches: what it draws, what it keeps and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.data.augment import Copies, augment
from fedlite.data.options import AugmentOptions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 64) -> Tensor:
    """Random pixels with a border of zeros two wide, so that a shift by two loses nothing."""
    inner = torch.rand((count, 3, 6, 6), generator=seeded(9)) + 0.1
    return torch.nn.functional.pad(inner, (2, 2, 2, 2))


def test_off_returns_the_batch_itself() -> None:
    inputs = images()
    assert augment(inputs, AugmentOptions(), seeded()) is inputs


@pytest.mark.parametrize("config", [AugmentOptions(2, True, 0.1), AugmentOptions(noise=1.0)])
def test_seed_fixes_it_and_the_batch_is_left_alone(config: AugmentOptions) -> None:
    inputs = images()
    before = inputs.clone()
    first = augment(inputs, config, seeded(1))
    assert torch.equal(first, augment(inputs, config, seeded(1)))
    assert not torch.equal(first, augment(inputs, config, seeded(2)))
    assert torch.equal(inputs, before)
    assert (first.shape, first.dtype) == (inputs.shape, inputs.dtype)


def test_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    augment(images(), AugmentOptions(2, True, 0.1), seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_shift_moves_whole_images_by_all_offsets() -> None:
    inputs = images(400)
    shifted = augment(inputs, AugmentOptions(shift=2), seeded())
    offsets = set()
    for before, after in zip(inputs, shifted, strict=True):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(before.roll((dy, dx), (1, 2)), after)
        ]
        assert len(found) == 1  # all channels together, nothing lost
        offsets.update(found)
    assert len(offsets) == 25


def test_shift_fills_with_edge_pixels() -> None:
    ramp = torch.arange(5.0).expand(50, 1, 5, 5)
    shifted = augment(ramp, AugmentOptions(shift=1), seeded())
    rows = {tuple(row.tolist()) for row in shifted[:, 0, 0]}
    assert rows == {(0, 0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 4)}


def test_flip_mirrors_about_half_of_the_images() -> None:
    inputs = images(400)
    flipped = augment(inputs, AugmentOptions(flip=True), seeded())
    mirrored = (flipped == inputs.flip(-1)).flatten(1).all(1)
    kept = (flipped == inputs).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("shape", [(500, 9), (50, 9, 16), (20, 1, 8, 8)])
def test_noise_has_its_standard_deviation_on_any_shape(shape: tuple[int, ...]) -> None:
    noise = augment(torch.ones(shape), AugmentOptions(noise=0.5), seeded()) - 1
    assert float(noise.std()) == pytest.approx(0.5, rel=0.1)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("config", [AugmentOptions(shift=1), AugmentOptions(flip=True)])
@pytest.mark.parametrize("shape", [(4, 9, 128), (4, 20)])
def test_shift_and_flip_refuse_what_is_no_image(
    config: AugmentOptions, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="are for images"):
        augment(torch.zeros(shape), config, seeded())


# --- copies of single examples --------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_copy_follows_from_seed_and_number_alone(seed: int) -> None:
    copies, inputs = Copies(AugmentOptions(2, True, 0.1), 3, seed), images()
    whole = list(copies.of(inputs, torch.arange(64)))
    rows = torch.tensor([60, 3, 17])
    for one, other in zip(whole, copies.of(inputs[rows], rows), strict=True):
        assert torch.equal(one[rows], other)
    assert not torch.equal(whole[0], whole[1])
    another = next(replace(copies, seed=seed - 1 if seed else 1).of(inputs, torch.arange(64)))
    assert not torch.equal(whole[0], another)


def test_copies_draw_every_shift_half_of_the_flips_and_normal_noise() -> None:
    numbers = torch.arange(4000)
    point = torch.zeros(4000, 1, 5, 8)
    point[:, :, 2, 3] = 1
    (moved,) = Copies(AugmentOptions(shift=1), 1, 3).of(point, numbers)
    where = moved.flatten(1).argmax(dim=1).bincount(minlength=40).reshape(5, 8)[1:4, 2:5]
    assert where.sum() == 4000
    assert (where - 4000 / 9).abs().max() < 80
    (mirrored,) = Copies(AugmentOptions(flip=True), 1, 3).of(point, numbers)
    assert abs(float(mirrored[:, 0, 2, 4].mean()) - 0.5) < 0.03
    (noisy,) = Copies(AugmentOptions(noise=2.0), 1, 3).of(torch.zeros(4000, 5), numbers)
    assert (noisy.mean(dim=0).abs() < 0.15).all()
    assert ((noisy.std(dim=0) - 2).abs() < 0.1).all()
    assert (torch.corrcoef(noisy.T) - torch.eye(5)).abs().max() < 0.06


def test_copies_of_texts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"dataset.augment: .* not for texts"):
        list(Copies(AugmentOptions(noise=0.1), 1, 0).of(torch.zeros(2, 6).long(), torch.arange(2)))
