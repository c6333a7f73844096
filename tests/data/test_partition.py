"""Which client holds which example: invariants of every partition, and what cannot be divided."""

from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.options import PartitionOptions
from fedlite.data.partition import Partition, partition_of, partition_rows

LABELS = np.random.default_rng(0).integers(0, 10, 1200)
GROUPS = np.random.default_rng(1).integers(0, 30, 1200)

DIVIDES_ALL = [
    PartitionOptions("iid"),
    PartitionOptions("dirichlet", alpha=1.0),
    PartitionOptions("pathological", classes_per_client=3),
    PartitionOptions("size", skew="linear"),
    PartitionOptions("size", skew="square"),
    PartitionOptions("size", skew="exponential"),
]
DRAWN = [*DIVIDES_ALL, PartitionOptions("shards", shards_per_client=3)]


def name_of(config: PartitionOptions) -> str:
    return f"{config.name}-{config.skew}" if config.name == "size" else config.name


def divide(config: PartitionOptions, clients: int | None, seed: int = 0) -> list[np.ndarray]:
    return partition_rows(LABELS, GROUPS, config, clients, seed)


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("config", DRAWN, ids=name_of)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**31 - 1), short=st.integers(0, 250))
def test_parts_are_disjoint_not_empty_and_cover_all(
    config: PartitionOptions, seed: int, short: int
) -> None:
    clients, labels = 6, LABELS[short:]
    config = replace(config, classes_per_client=5)
    parts = partition_rows(labels, None, config, clients, seed)
    assert len(parts) == clients
    assert min(len(part) for part in parts) >= 1
    rows = np.concatenate(parts)
    assert len(np.unique(rows)) == len(rows)
    assert (rows >= 0).all()
    assert (rows < len(labels)).all()
    if config.name == "shards":
        assert len(labels) - len(rows) < clients * config.shards_per_client
    elif config.name == "pathological":
        assert set(np.delete(labels, rows)).isdisjoint(labels[rows])  # whole classes left out
    else:
        assert len(rows) == len(labels)


@pytest.mark.parametrize("config", DRAWN, ids=name_of)
def test_same_seed_same_parts_other_seed_others(config: PartitionOptions) -> None:
    first = divide(config, 6, seed=3)
    assert same(first, divide(config, 6, seed=3))
    assert not same(first, divide(config, 6, seed=4))


@pytest.mark.parametrize("config", [*DRAWN, PartitionOptions("natural")], ids=name_of)
def test_the_parts_are_those_that_the_library_hands_out(config: PartitionOptions) -> None:
    """Row by row, as a user of it would ask for them."""
    order = np.random.default_rng(5).permutation(len(LABELS))
    columns = {"row": order, "label": LABELS[order], "group": GROUPS[order]}
    clients = 30 if config.name == "natural" else 7
    partitioner = partition_of(config).build(config, clients, 5, 1)
    partitioner.dataset = datasets.Dataset.from_dict(columns)
    wanted = [np.sort(partitioner.load_partition(i)["row"][:]) for i in range(clients)]
    assert same(divide(config, None if config.name == "natural" else clients, seed=5), wanted)


def test_iid_clients_see_every_class_in_equal_sizes() -> None:
    parts = divide(PartitionOptions("iid"), 10)
    assert {len(part) for part in parts} == {120}
    assert all(len(np.unique(LABELS[part])) == 10 for part in parts)


def test_dirichlet_alpha_sets_the_skew() -> None:
    def largest_share(alpha: float) -> float:
        parts = divide(PartitionOptions("dirichlet", alpha=alpha), 10)
        return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))

    assert largest_share(0.1) > 0.45 > 0.2 > largest_share(100.0)


def test_pathological_clients_have_exactly_their_classes_and_all_are_used() -> None:
    parts = divide(PartitionOptions("pathological", classes_per_client=3), 20)
    assert {len(np.unique(LABELS[part])) for part in parts} == {3}
    assert sum(len(part) for part in parts) == len(LABELS)


def test_shards_are_equal_and_of_few_classes() -> None:
    parts = divide(PartitionOptions("shards", shards_per_client=2), 20)
    assert {len(part) for part in parts} == {60}
    assert max(len(np.unique(LABELS[part])) for part in parts) <= 4


def test_size_skews_grow_with_the_client_number() -> None:
    ratios = []
    for skew in ("linear", "square", "exponential"):
        sizes = [len(part) for part in divide(PartitionOptions("size", skew=skew), 6)]
        assert sizes == sorted(sizes)
        ratios.append(sizes[-1] / sizes[0])
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("clients", [None, 30])
def test_natural_is_one_client_for_each_id(clients: int | None) -> None:
    parts = divide(PartitionOptions("natural"), clients)
    assert [np.unique(GROUPS[part]).tolist() for part in parts] == [[i] for i in range(30)]
    assert sum(len(part) for part in parts) == len(GROUPS)


def test_natural_needs_ids_and_their_number() -> None:
    with pytest.raises(UsageError, match="num_clients=7: the natural partition has 30 private"):
        divide(PartitionOptions("natural"), 7)
    with pytest.raises(UsageError, match="gives no natural ids"):
        partition_rows(LABELS, None, PartitionOptions("natural"), None, 0)
    with pytest.raises(UsageError, match="num_clients=null: give a number"):
        divide(PartitionOptions("iid"), None)


@pytest.mark.parametrize(
    ("config", "clients", "message"),
    [
        (PartitionOptions("iid"), 1201, "1200 private examples cannot serve 1201 clients"),
        (PartitionOptions("dirichlet", alpha=1e-3), 50, r"client \d+ .*alpha 0.001; raise part"),
        (PartitionOptions("size", skew="exponential"), 50, "client 0, .*no example; use part"),
        (PartitionOptions("size", skew="exponential"), 900, "client 0, .*no example; use part"),
        (PartitionOptions("shards", shards_per_client=30), 50, "do not fill 50 x 30 shards; lower"),
        (PartitionOptions("pathological", classes_per_client=11), 5, "11.*; lower partition.cl"),
        (PartitionOptions("pathological", classes_per_client=9), 1000, "Label.*; lower part"),
        (PartitionOptions("alphabetic"), 5, "name=alphabetic: must be one of dirichlet, iid, nat"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, PartitionOptions) else None,
)
def test_impossible_divisions_end_in_one_line(
    config: PartitionOptions, clients: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        divide(config, clients)
    assert len(str(caught.value).splitlines()) == 1


class Dealer:
    """Deals a data set out in turns."""

    dataset: Any

    def __init__(self, num_clients: int) -> None:
        self.num_clients = num_clients

    def load_partition(self, client: int) -> Any:
        return self.dataset.select(range(client, len(self.dataset), self.num_clients))


class Turns(Partition):
    """A partition of one's own."""

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        return Dealer(num_clients)


OWN = Turns()


def test_a_partition_of_ones_own_is_named_by_its_path() -> None:
    parts = divide(PartitionOptions(f"{__name__}.OWN"), 7, seed=3)
    assert [len(part) for part in parts] == [172, 172, 172, 171, 171, 171, 171]
    assert sorted(np.concatenate(parts)) == list(range(1200))
    for name, said in (("NONE", "cannot import"), ("LABELS", "is no fedlite.data.partition.Part")):
        with pytest.raises(UsageError, match=rf"partition.name={__name__}.{name}: {said}"):
            divide(PartitionOptions(f"{__name__}.{name}"), 5)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    divide(PartitionOptions("natural"), None)
    divide(PartitionOptions("dirichlet", alpha=0.05), 4)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
