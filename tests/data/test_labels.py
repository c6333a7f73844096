"""Labels as users have them: numbered, named, or refused in words that say what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.labels import Classes, number_labels
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, read_raw


def numbered(labels: Any, test: Any = None, **names: Any) -> Classes:
    train = np.asarray(labels)
    second = None if test is None else np.asarray(test)
    counts = (len(train), 0 if second is None else len(second))
    return number_labels(train, second, counts, "dataset mine", **names)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, 2, 1], ("0", "1", "2")),
        ([1, 2, 3, 2], ("1", "2", "3")),
        ([7, 40, 7, 40], ("7", "40")),
        ([10**12, 3, 3, 10**12], ("3", "1000000000000")),
        ([-1, 1, -1, 1], ("-1", "1")),
        ([1.0, 2.0, 1.0, 2.0], ("1", "2")),
        ([True, False, True, False], ("False", "True")),
        (["dog", " cat", "dog ", "cat"], ("cat", "dog")),
        ([b"dog", b"cat", b"dog", b"cat"], ("cat", "dog")),
        (np.array(["b", "a", "b", 3], dtype=object), ("3", "a", "b")),
        (np.array([2.0, 5, 2, 5], dtype=object), ("2", "5")),
        (np.array([[4], [6], [4], [6]], dtype=np.uint8), ("4", "6")),
    ],
)
def test_each_value_that_occurs_is_a_class_under_its_own_name(
    labels: Any, names: tuple[str, ...]
) -> None:
    found = numbered(labels)
    assert found.names == names
    assert (found.train.dtype, found.train.min(), found.train.max()) == (
        np.int64,
        0,
        len(names) - 1,
    )
    original = [str(one).strip() for one in np.asarray(labels).ravel().tolist()]
    back = [names[code] for code in found.train]
    assert [one.removeprefix("b'").removesuffix("'").removesuffix(".0") for one in original] == back


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=40).filter(lambda v: len({*v}) > 1)
)
def test_names_of_any_numbers_are_the_numbers_in_order(values: list[int]) -> None:
    found = numbered(values)
    assert [int(found.names[code]) for code in found.train] == values
    assert list(map(int, found.names)) == sorted(set(values))


def test_test_labels_are_numbered_as_the_training_ones() -> None:
    assert numbered([3, 5, 9, 5], [9, 3, 5]).test.tolist() == [2, 0, 1]  # type: ignore[union-attr]
    mixed = numbered([1, 2, 1, 2], np.array([True, True]))
    assert mixed.test is not None
    assert mixed.test.tolist() == [0, 0]
    text = numbered([1, 2, 1, 2], ["2", "1"])
    assert (text.names, text.test.tolist()) == (("1", "2"), [1, 0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        ([0, 1, 0, 1], {"given": ["no", "yes"]}, [0, 1, 0, 1]),
        ([1, 2, 3, 1], {"given": ["a", "b", "c"]}, [0, 1, 2, 0]),
        ([5, 9, 5, 9], {"given": ["9", "5"]}, [1, 0, 1, 0]),
        (["b", "a", "b", "a"], {"given": ["b", "a"]}, [0, 1, 0, 1]),
        ([1, 2, 1, 2], {"named": ("1", "2", "3")}, [1, 2, 1, 2]),  # places in the source's own list
        ([True, False, True, True], {"given": ["no", "yes"]}, [1, 0, 1, 1]),
    ],
)
def test_labels_are_places_among_given_names_or_the_names_themselves(
    labels: Any, names: dict[str, Any], codes: list[int]
) -> None:
    assert numbered(labels, **names).train.tolist() == codes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(3)[[0, 1, 2, 1]], r"shape \(4, 3\) is one-hot; .*labels.argmax\(axis=1\)"),
        (np.array([[1, 1, 0], [0, 1, 0]]), r"is multi-label \(example 0 has 2 classes\)"),
        (np.array([[0.2, 0.8], [0.5, 0.5]]), "several values for each example"),
        (np.array([[1], [1, 2]], dtype=object), "are multi-label"),
        ([0.5, 1.0, 2.0], "0.5 is a measurement, not a class"),
        ([0.0, np.nan, 1.0], r"1 of 3 are missing \(the first is example 1\)"),
        (["a", "", "b"], "1 of 3 are missing"),
        (np.array(["a", None, "b"], dtype=object), "1 of 3 are missing"),
        (np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]"), "are no classes"),
        (np.arange(200), "200 different values in 200 examples .* an id or a measurement"),
        ([4, 4, 4], r"fewer than 2 classes in the training labels \(all are 4\)"),
    ],
)
def test_what_is_no_label_is_refused_in_one_line(labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        numbered(labels)
    assert "\n" not in str(refusal.value)


def test_test_labels_that_no_training_example_has_are_named() -> None:
    message = r"test labels: label bird does not occur .*\(cat, dog\).* 2 of 3 examples"
    with pytest.raises(UsageError, match=message):
        numbered(["cat", "dog", "cat"], ["bird", "bird", "cat"])
    with pytest.raises(UsageError, match=r"label 7 is out of range; 2 classes allow 0 to 1"):
        numbered([0, 1, 7], given=["a", "b"])
    with pytest.raises(UsageError, match=r"label bird is not among the classes \(cat, dog\)"):
        numbered(["cat", "bird"], given=["cat", "dog"])


def test_doubtful_labels_are_said() -> None:
    assert "one training example alone" in " ".join(numbered(["a", "b", "b"]).notes)
    assert "label -1" in " ".join(numbered([-1, 0, 1, -1, 0, 1]).notes)
    in_order = numbered([1, 2, 1, 2], given=["a", "b"]).notes
    assert "in the order of the labels: 1 is a, 2 is b" in " ".join(in_order)
    assert numbered([0, 1, 0, 1]).notes == ()


def test_a_source_s_text_labels_name_the_classes(tmp_path: Path) -> None:
    labels = np.array(["sick", "well"] * 3)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(6, 2)), y=labels)
    keys, files = {"inputs_train": "x", "labels_train": "y"}, {"data": "data.npz"}
    found = read_raw(DatasetOptions("mine", "npz", str(tmp_path), files=files, keys=keys))
    assert isinstance(found, RawData)
    assert (found.class_names, found.labels_train.tolist()) == (("sick", "well"), [0, 1] * 3)
