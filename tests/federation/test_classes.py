"""Which client belongs to which class of students."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.federation.class_options import StudentClass, check_classes
from fedlite.federation.classes import class_members

SHARES = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.7]), min_size=2, max_size=5)


def listed(*clients: str) -> StudentClass:
    return StudentClass(clients=list(clients))


@given(SHARES, st.integers(20, 300), st.integers(0, 5))
def test_every_client_is_in_exactly_one_class_and_classes_keep_their_shares(
    shares: list[float], clients: int, seed: int
) -> None:
    classes = {f"c{i}": StudentClass(share=share) for i, share in enumerate(shares)}
    found = class_members(classes, clients, seed)
    assert sorted(client for one in found.values() for client in one) == list(range(clients))
    for name, one in classes.items():
        assert list(found[name]) == sorted(found[name])
        assert abs(len(found[name]) - one.share / sum(shares) * clients) < 1
    assert found == class_members(classes, clients, seed)


def test_the_seed_draws_who_is_in_a_class() -> None:
    classes = {"a": StudentClass(), "b": StudentClass()}
    first, second = (class_members(classes, 50, seed) for seed in (0, 1))
    assert first != second
    assert first["a"] != tuple(range(25))  # natural ids may be sorted: no class is the first ones


def test_clients_may_be_listed() -> None:
    classes = {"a": listed("0-2", "5"), "b": listed("4", "3")}
    assert class_members(classes, 6, seed=0) == {"a": (0, 1, 2, 5), "b": (3, 4)}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"a": listed("0-3"), "b": listed("3-5")}, r"b\.clients: 3 is in .*\.a\.clients too"),
        ({"a": listed("0-1", "1"), "b": listed("2-5")}, r"a\.clients: 1 is in it twice"),
        ({"a": listed("0"), "b": listed("2-5")}, r"1 of 6 clients are in none, client 1 among"),
        ({"a": listed("1-2"), "b": listed("3-5")}, r"client 0 among them"),
        ({"a": listed("0-2"), "b": listed("3-6")}, r"b\.clients: 6: there are clients 0 to 5"),
        ({"a": listed("0-999999999"), "b": listed("1")}, "999999999: there are clients 0 to 5"),
        ({"a": StudentClass(share=100), "b": StudentClass()}, r"b\.share=1: no client of 6"),
    ],
)
def test_classes_that_do_not_divide_the_clients_are_refused(
    classes: dict[str, StudentClass], words: str
) -> None:
    check_classes(classes)
    with pytest.raises(UsageError, match=words) as refusal:
        class_members(classes, 6, seed=0)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"a": StudentClass()}, "one class is no division"),
        ({"a/..": StudentClass(), "b": StudentClass()}, "it names a folder"),
        ({"a": listed("1"), "b": StudentClass()}, r"classes\.b\.clients: missing"),
        ({"a": listed("5-3"), "b": listed("1")}, "'5-3' is empty; give 3-5"),
        ({"a": listed("1,2"), "b": listed("1")}, "give numbers of clients and ranges"),
        ({"a": listed("-1"), "b": listed("1")}, "give numbers of clients and ranges"),
    ],
)
def test_classes_that_cannot_be_are_refused_whatever_the_number_of_clients(
    classes: dict[str, StudentClass], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_classes(classes)
