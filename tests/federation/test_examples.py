"""A device's own examples: read by its rules, each row on its own, from both kinds of file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.types import Normalise
from fedlite.federation.examples import Examples, open_examples, preparation, read_examples
from fedlite.privacy.policy import DataRules, Policy

IMAGES = DataRules(input_shape=(1, 4, 4), class_names=tuple("0123456789"), mean=(0.5,), std=(0.25,))
VITALS = DataRules(
    input_shape=(2,),
    class_names=("healthy", "ill"),
    scale=10.0,
    mean=(1.0, 2.0),
    std=(0.5, 4.0),
    inputs=("pulse", "age"),
    labels="diagnosis",
)
RNG = np.random.default_rng(0)
INPUTS = RNG.integers(0, 17, (23, 1, 4, 4), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 23)


def archive(folder: Path, rules: DataRules = IMAGES, **arrays: np.ndarray) -> Examples:
    """What is read of an archive of these arrays."""
    path = folder / "own.npz"
    np.savez(path, **{"inputs": INPUTS, "labels": LABELS, **arrays})  # type: ignore[arg-type]
    return read_examples(path, rules, client_id=5)


def table(folder: Path, *rows: str, header: str = "name,age,pulse,diagnosis") -> Examples:
    """What is read of a CSV file of these rows."""
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return read_examples(path, VITALS, client_id=5)


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int16", ">i4", "float16"])
def test_inputs_of_any_number_type_are_prepared_as_the_rules_say(kind: str, tmp_path: Path) -> None:
    found = archive(tmp_path, inputs=INPUTS.astype(kind), labels=LABELS.astype(np.uint8))
    assert found.data.client_id == 5
    assert found.data.inputs.dtype == torch.float32
    assert torch.equal(found.data.inputs, Normalise(1.0, (0.5,), (0.25,))(torch.from_numpy(INPUTS)))
    assert found.data.labels.dtype == torch.int64
    assert found.data.labels.tolist() == LABELS.tolist()
    assert (found.left_out, found.without()) == (0, "")


@pytest.mark.parametrize(
    "labels", [LABELS.astype(float), LABELS.astype(str), LABELS.astype(np.int8)]
)
def test_labels_are_places_or_names(labels: np.ndarray, tmp_path: Path) -> None:
    assert archive(tmp_path, labels=labels).data.labels.tolist() == LABELS.tolist()


def test_one_constant_stands_for_all_leading_dimensions() -> None:
    rules = DataRules(input_shape=(3, 2), class_names=("a", "b"), mean=(1.0,), std=(2.0, 3.0, 4.0))
    assert preparation(rules) == Normalise(1.0, (1.0, 1.0, 1.0), (2.0, 3.0, 4.0))


def test_columns_of_a_table_are_read_by_name_and_in_the_order_of_the_rules(tmp_path: Path) -> None:
    found = table(tmp_path, "Zaphod,42,70,ill", '"Beeblebrox, Z.",17,65.5, healthy ')
    raw = torch.tensor([[70, 42], [65.5, 17]])
    assert torch.equal(found.data.inputs, preparation(VITALS)(raw))
    assert found.data.labels.tolist() == [1, 0]


def test_nobody_is_no_error(tmp_path: Path) -> None:
    """A client without examples answers like any other."""
    for found in (archive(tmp_path, inputs=INPUTS[:0], labels=np.array([])), table(tmp_path)):
        assert (len(found.data), found.left_out) == (0, 0)
        assert found.data.inputs.ndim > 1


# --- one row decides about itself alone -----------------------------------------------------

BAD_ROWS = [
    "Ford,200,70,towel",
    "Ford,,70,ill",
    "Ford,old,70,ill",
    "Ford,nan,70,ill",
    "Ford,1e999,70,ill",
    "Ford,42,70,",
    "Ford",
    "Ford,42,70,Ill",
    "Ford,42,70," + "ill" * 50_000,
    'Ford,42,70,"towel',
    'Ford,"42,70,ill',
]


@pytest.mark.parametrize("row", BAD_ROWS, ids=lambda row: row[:20])
def test_a_row_that_does_not_fit_is_left_out_and_no_other_notices(row: str, tmp_path: Path) -> None:
    good = ["Zaphod,42,70,ill", "Trillian,30,60,healthy"]
    clean, found = table(tmp_path, *good), table(tmp_path, good[0], row, good[1])
    assert torch.equal(found.data.inputs, clean.data.inputs)
    assert torch.equal(found.data.labels, clean.data.labels)
    assert found.left_out == 1
    assert "1 of 3 examples are left out" in found.without()


def test_one_label_of_another_kind_changes_no_other(tmp_path: Path) -> None:
    labels = np.array([*LABELS[:-1].tolist(), "?"])
    found = archive(tmp_path, labels=labels)
    assert found.data.labels.tolist() == LABELS[:-1].tolist()
    assert found.left_out == 1


ROW = st.tuples(
    st.lists(st.floats(width=64), min_size=2, max_size=2),
    st.one_of(st.integers(-3, 5), st.floats(width=64)),
)


@given(rows=st.lists(ROW, max_size=6), more=ROW, place=st.integers(0, 6))
def test_one_row_more_or_less_changes_no_other(
    rows: list[tuple[list[float], float]],
    more: tuple[list[float], float],
    place: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Preparation, and what is left out, is each row's own affair: the neighbour's data set is a
    neighbour after it."""
    rules = DataRules(input_shape=(2,), class_names=("a", "b"), mean=(0.5,), std=(2.0,))

    def kept(some: list[tuple[list[float], float]]) -> list[tuple[list[float], int]]:
        inputs = np.array([values for values, _ in some]).reshape(-1, 2)
        labels = np.array([label for _, label in some], dtype=float)
        found = archive(tmp_path_factory.getbasetemp(), rules, inputs=inputs, labels=labels).data
        return list(zip(found.inputs.tolist(), found.labels.tolist(), strict=True))

    neighbour = [*rows[:place], more, *rows[place:]]
    before, after, alone = kept(rows), kept(neighbour), kept([more])
    at = len(kept(rows[:place]))
    assert after == [*before[:at], *alone, *before[at:]]


# --- files that are wrong as a whole --------------------------------------------------------

BROKEN: dict[str, dict[str, np.ndarray]] = {
    "another shape": {"inputs": INPUTS[:, :, :3]},
    "no channels": {"inputs": INPUTS[:, 0]},
    "words": {"inputs": INPUTS.astype("U2")},
    "fewer labels": {"labels": LABELS[:-1]},
    "labels in columns": {"labels": LABELS[:, None]},
    "objects": {"labels": LABELS.astype(object)},
    "dates": {"labels": LABELS.astype("datetime64[s]")},
}


@pytest.mark.parametrize("arrays", BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_is_one_line_with_its_path(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path / 'own.npz'}: ") as refusal:
        archive(tmp_path, **arrays)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_array_or_column_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.npz: no such file; data\.file"):
        read_examples(tmp_path / "none.npz", IMAGES, client_id=0)
    with pytest.raises(UsageError, match=r"no array 'pulse' \(data\.inputs\); has inputs, labels"):
        archive(tmp_path, DataRules((2,), ("a", "b"), (0.0,), (1.0,), inputs=("pulse",)))
    with pytest.raises(UsageError, match=r"data\.inputs must name the one array"):
        archive(tmp_path, VITALS)
    with pytest.raises(UsageError, match=r"no column 'age' \(data\.inputs\); has name, pulse"):
        table(tmp_path, header="name,pulse,diagnosis")
    (tmp_path / "own.csv").write_text("a,b,c\n")
    wide = DataRules((2,), ("a", "b"), (0.0,), (1.0,), inputs=("a", "b", "c"), labels="c")
    with pytest.raises(UsageError, match=r"3 columns in data\.inputs are not one example"):
        read_examples(tmp_path / "own.csv", wide, client_id=0)


# --- what the owner is told -----------------------------------------------------------------


def test_the_owner_s_log_says_once_what_no_reply_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = LABELS.copy()
    labels[3] = 10
    path = tmp_path / "own.npz"
    np.savez(path, inputs=INPUTS, labels=labels)
    policy = Policy("x", max_epsilon=1.0, max_delta=0.1, data=IMAGES)
    first = open_examples(path, policy, client_id=0)
    assert open_examples(path, policy, client_id=0) is first
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [first.too_many(policy), first.without()]
    assert "max_delta: 0.1 must be below 1/n of the 22 examples" in lines[0]
    os.utime(path, ns=(1, 1))
    assert open_examples(path, policy, client_id=0) is not first
