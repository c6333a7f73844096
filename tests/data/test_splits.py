"""Public, private and test parts: disjoint, seeded, normalised by public data alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.splits import Splits, load_splits

IID = PartitionOptions("iid")
NATURAL = PartitionOptions("natural")
HAR_KEYS = {
    "inputs_train": "x_train",
    "labels_train": "y_train",
    "inputs_test": "x_test",
    "labels_test": "y_test",
    "groups_train": "subject_train",
    "class_names": "label_names",
}


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """300 examples whose only feature is their own number; 3 classes, 12 natural ids."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x=np.arange(300, dtype=np.float32)[:, None],
        y=np.repeat([0, 1, 2], [150, 100, 50]),
        person=rng.integers(0, 12, 300),
        xt=np.arange(1000, 1030, dtype=np.float32)[:, None],
        yt=np.arange(30) % 3,
    )
    return tmp_path


def numbered_config(root: Path, with_test: bool = False, **options: Any) -> DatasetOptions:
    keys = {"inputs_train": "x", "labels_train": "y", "groups_train": "person"}
    if with_test:
        keys |= {"inputs_test": "xt", "labels_test": "yt"}
    return DatasetOptions(
        "numbered", "npz", str(root), files={"data": "data.npz"}, keys=keys, **options
    )


def numbers(splits: Splits) -> dict[str, list[int]]:
    """The example numbers in each part, with normalisation undone."""
    normalise = splits.task.preprocessing

    def undo(inputs: torch.Tensor) -> list[int]:
        raw = inputs * normalise.std[0] + normalise.mean[0]
        return [round(value) for value in raw[:, 0].tolist()]

    clients = [splits.client(client_id).inputs for client_id in range(splits.num_clients)]
    return {
        "public": undo(splits.public.inputs),
        "validation": undo(splits.public_validation.inputs),
        "test": undo(splits.test.inputs),
        "private": undo(torch.cat(clients)),
    }


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31 - 1),
    natural=st.booleans(),
    holdout=st.integers(0, 40),
    public=st.integers(2, 120),
    with_test=st.booleans(),
)
def test_parts_are_disjoint_and_cover_all(
    numbered: Path, seed: int, natural: bool, holdout: int, public: int, with_test: bool
) -> None:
    config = numbered_config(
        numbered, with_test, holdout_size=holdout, public_size=public, test_fraction=0.1
    )
    splits = load_splits(config, NATURAL if natural else IID, None if natural else 5, seed)
    parts = numbers(splits)
    seen = [number for part in parts.values() for number in part]
    assert len(set(seen)) == len(seen)
    assert len(parts["public"]) >= 1
    assert len(parts["validation"]) >= 1
    public_count = len(parts["public"]) + len(parts["validation"])
    training = [number for number in seen if number < 1000]
    if natural:
        assert public_count >= public
        assert len(training) <= 300 - holdout
        with np.load(numbered / "data.npz") as stored:
            person = stored["person"]
        publics = {person[n] for n in parts["public"] + parts["validation"]}
        assert publics.isdisjoint(person[parts["private"]])
        if not with_test:
            assert set(person[parts["test"]]).isdisjoint(publics | set(person[parts["private"]]))
        if len(publics) > 1:
            assert set(person[parts["public"]]).isdisjoint(person[parts["validation"]])
    else:
        assert public_count == public
        assert len(training) == 300 - holdout
    assert all(number >= 1000 for number in parts["test"]) == with_test


@pytest.mark.parametrize("partition", [IID, PartitionOptions("dirichlet"), NATURAL])
def test_seed_fixes_the_split(numbered: Path, partition: PartitionOptions) -> None:
    clients = None if partition is NATURAL else 5
    config = numbered_config(numbered)
    first = numbers(load_splits(config, partition, clients, 1))
    assert numbers(load_splits(config, partition, clients, 1)) == first
    other = numbers(load_splits(config, partition, clients, 2))
    assert set(other["public"]) != set(first["public"])


def test_public_part_is_stratified(numbered: Path) -> None:
    splits = load_splits(numbered_config(numbered, True, public_size=60), IID, 5, 0)
    labels = torch.cat([splits.public.labels, splits.public_validation.labels])
    assert torch.bincount(labels).tolist() == [30, 20, 10]
    assert torch.bincount(splits.public_validation.labels).tolist() == [6, 4, 2]


def test_holdout_replaces_the_test_part_and_moves_nothing_else(numbered: Path) -> None:
    options = {"holdout_size": 30, "public_size": 60}
    tested = numbers(load_splits(numbered_config(numbered, True, **options), IID, 5, 0))
    config = numbered_config(numbered, True, evaluate_on="holdout", **options)
    held = load_splits(config, IID, 5, 0)
    parts = numbers(held)
    assert torch.bincount(held.test.labels).tolist() == [15, 10, 5]
    assert parts["private"] == tested["private"]
    assert parts["public"] == tested["public"]
    assert set(parts["test"]).isdisjoint(parts["private"] + parts["public"] + parts["validation"])


def test_normalisation_knows_public_training_examples_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(5, 3, (400, 2)).astype(np.float32)
    inputs[:, 1] = 7  # constant
    np.savez(tmp_path / "data.npz", x=inputs, y=np.arange(400) % 2)
    config = DatasetOptions(
        "plain",
        "npz",
        str(tmp_path),
        files={"data": "data.npz"},
        keys={"inputs_train": "x", "labels_train": "y"},
    )
    splits = load_splits(config, IID, 4, 0)
    public = splits.public.inputs
    torch.testing.assert_close(public.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(public[:, 0].std(correction=0), torch.tensor(1.0))
    assert (splits.client(0).inputs[:, 1] == 0).all()
    assert float(splits.client(0).inputs[:, 0].mean()) != pytest.approx(0, abs=1e-3)


def test_digits_by_default() -> None:
    splits = load_splits(DatasetOptions("digits", "digits"), IID, 20, 0)
    assert splits.task.input_shape == (1, 8, 8)
    assert splits.task.num_classes == 10
    assert len(splits.test) == 359
    assert len(splits.public) + len(splits.public_validation) == 288
    assert sum(splits.client_sizes()) == 1797 - 359 - 288
    client = splits.client(3)
    assert client.client_id == 3
    assert client.inputs.shape == (splits.client_sizes()[3], 1, 8, 8)
    assert (client.inputs.dtype, client.labels.dtype) == (torch.float32, torch.int64)
    counts = splits.class_counts()
    assert counts.shape == (20, 10)
    assert counts[3].tolist() == torch.bincount(client.labels, minlength=10).tolist()


def test_a_client_that_is_not_there() -> None:
    splits = load_splits(DatasetOptions("digits", "digits"), IID, 4, 0)
    with pytest.raises(UsageError, match="client 4: there are clients 0 to 3"):
        splits.client(4)


@pytest.mark.parametrize(
    ("options", "partition", "clients", "message"),
    [
        ({"public_size": 296}, IID, 5, "public_size: 296 of 300 .* too few for 5 client"),
        ({"public_size": 290, "holdout_size": 8}, IID, 5, "public_size: 290 of 292"),
        ({"holdout_size": 300}, IID, 5, "dataset.holdout_size: 300 of 300"),
        ({"public_size": 1}, IID, 5, "at least 2 are needed"),
        ({"public_size": 299}, NATURAL, None, "as whole natural ids, leave no private client"),
        ({}, NATURAL, 99, "num_clients=99: the natural partition has"),
        ({}, PartitionOptions("dirichlet", alpha=1e-3), 50, r"client \d+ would hold no example"),
    ],
)
def test_sizes_that_do_not_fit(
    numbered: Path,
    options: dict[str, int],
    partition: PartitionOptions,
    clients: int | None,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        load_splits(numbered_config(numbered, True, **options), partition, clients, 0)


def test_natural_without_ids() -> None:
    with pytest.raises(UsageError, match="gives no natural ids"):
        load_splits(DatasetOptions("digits", "digits"), NATURAL, None, 0)


def test_fashion_mnist_with_a_thousand_clients(data_dir: Path) -> None:
    config = DatasetOptions(
        "fashion_mnist", "idx", str(data_dir / "fashion_mnist"), public_size=2000
    )
    splits = load_splits(config, IID, 1000, 0)
    assert splits.client_sizes() == [58] * 1000
    assert torch.bincount(splits.public.labels).tolist() == [160] * 10
    assert len(splits.test) == 10_000
    normalise = splits.task.preprocessing
    assert normalise.mean[0] == pytest.approx(0.2860, abs=0.01)  # 0.2860, 0.3530 over all 60,000
    assert normalise.std[0] == pytest.approx(0.3530, abs=0.01)


def test_mnist_writers_stay_whole(data_dir: Path) -> None:
    config = DatasetOptions(
        "mnist_writers",
        "idx",
        str(data_dir / "mnist"),
        files={"groups": "writers.npz"},
        keys={"groups_train": "writer_train"},
        public_size=2000,
    )
    splits = load_splits(config, NATURAL, None, 0)
    with np.load(data_dir / "mnist" / "writers.npz") as stored:
        per_writer = sorted(np.unique(stored["writer_train"], return_counts=True)[1])
    public = len(splits.public) + len(splits.public_validation)
    assert 2000 <= public < 2000 + per_writer[-1]
    assert public + sum(splits.client_sizes()) == 60_000
    assert 539 - 40 < splits.num_clients < 539
    rest = list(per_writer)
    for size in splits.client_sizes():
        rest.remove(size)  # each client is one whole writer
    assert sum(rest) == public


def test_har_people_stay_whole(data_dir: Path) -> None:
    config = DatasetOptions(
        "har",
        "npz",
        str(data_dir / "uci_har"),
        files={"data": "inertial.npz"},
        keys=HAR_KEYS,
        layout="channels_last",
    )
    splits = load_splits(config, NATURAL, None, 0)
    assert splits.task.input_shape == (9, 128)
    assert len(splits.task.preprocessing.mean) == 9
    assert len(splits.test) == 2947
    with np.load(data_dir / "uci_har" / "inertial.npz") as stored:
        sizes = np.bincount(stored["subject_train"]).tolist()
    assert set(splits.client_sizes()) <= set(sizes)
    assert len(splits.public) + len(splits.public_validation) >= 0.2 * 7352
    assert len(splits.public_validation) in sizes  # one whole person
