"""Constants of standardisation: what each way makes of outliers, sparse and constant features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedlite.data.options import DatasetOptions
from fedlite.data.splits import load_splits
from fedlite.data.standardise import Standardise, constants_of
from tests.data.test_splits import IID

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(5, 2, 4000)
SPARSE = np.where(RNG.random(4000) < 0.02, RNG.choice([90.0, 100.0, 110.0], 4000), 0)
CONSTANT = np.full(4000, 7.0)
FEATURES = np.stack([NORMAL, SPARSE, CONSTANT], axis=1)


def test_standard_is_mean_and_deviation() -> None:
    centre, spread = constants_of(FEATURES, "standard")
    np.testing.assert_allclose(centre, FEATURES.mean(axis=0))
    np.testing.assert_allclose(spread[:2], FEATURES.std(axis=0)[:2])
    assert spread[2] == 1


def test_robust_agrees_on_normal_values_and_is_not_moved_by_outliers() -> None:
    centre, spread = constants_of(FEATURES, "robust")
    np.testing.assert_allclose((centre[0], spread[0]), (5, 2), rtol=0.05)
    outliers = FEATURES.copy()
    outliers[:40] = 1e9
    moved = constants_of(outliers, "robust")
    np.testing.assert_allclose((moved[0][0], moved[1][0]), (5, 2), rtol=0.05)


def test_robust_brings_what_is_apart_in_sparse_features_to_about_one() -> None:
    centre, spread = constants_of(FEATURES, "robust")
    assert (centre[1], spread[1]) == (0, 100)
    assert (centre[2], spread[2]) == (7, 1)


def test_none_changes_nothing() -> None:
    centre, spread = constants_of(FEATURES, "none")
    assert (centre.tolist(), spread.tolist()) == ([0] * 3, [1] * 3)


@pytest.mark.parametrize("how", ["standard", "robust", "none"])
def test_channels_of_images_have_one_constant_each(how: Standardise) -> None:
    centre, spread = constants_of(RNG.normal(size=(20, 3, 4, 5)), how)
    assert (centre.shape, spread.shape) == ((3,), (3,))


@pytest.mark.parametrize("how", ["standard", "robust", "none"])
def test_a_data_set_is_prepared_by_what_ships(tmp_path: Path, how: Standardise) -> None:
    np.savez(tmp_path / "data.npz", x=FEATURES[:400].astype(np.float32), y=np.arange(400) % 2)
    keys, files = {"inputs_train": "x", "labels_train": "y"}, {"data": "data.npz"}
    config = DatasetOptions("mine", "npz", str(tmp_path), files=files, keys=keys, standardise=how)
    splits = load_splits(config, IID, 4, 0)
    shipped = splits.task.preprocessing.describe()
    assert shipped["formula"].startswith("(raw / scale - mean) / std")
    raw = splits.task.preprocessing.undo(splits.public.inputs)
    again = (raw / shipped["scale"] - torch.tensor(shipped["mean"])) / torch.tensor(shipped["std"])
    torch.testing.assert_close(again.float(), splits.public.inputs, atol=1e-4, rtol=1e-4)
