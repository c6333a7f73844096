"""The run's checkpoint: whole, or the one before."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.common.serde import context_to_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.base.tensors import save_tensors
from fedlite.federation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

RECORD = RoundRecord(
    round=1,
    evaluation=Evaluation(accuracy=0.5, macro_f1=0.25, loss=1.5, confusion=[[3, 0], [1, 2]]),
    clients_trained=3,
    clients_refused=1,
    clients_failed=0,
    epsilons=[0.1, 0.2],
    bytes_down=1000,
    bytes_up=900,
    seconds={"train": 0.1, "total": 0.2},
    teacher_bytes=70,
)
CHECKPOINT = Checkpoint(
    round=2,
    state={"weight": torch.tensor([[1.0, -2.0]]), "scale": torch.tensor(3.0)},
    average={"weight": torch.tensor([[0.1, 1e-30]]), "scale": torch.tensor(3.0)},
    strategy={"m_t": {"weight": torch.ones(2)}, "momentum_vector": [torch.zeros(3)]},
    epsilons=[0.1, float("inf")],
    history=[RECORD, replace(RECORD, round=2, evaluation=None)],
    contexts={2: b"\x00\x01\xff", 3: b""},
)


def assert_same(left: object, right: object) -> None:
    """Equal in structure, types and bits."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert isinstance(right, torch.Tensor)
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert isinstance(right, dict)
        assert list(left) == list(right)
        for key, value in left.items():
            assert_same(value, right[key])
    elif isinstance(left, list):
        assert isinstance(right, list)
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", CHECKPOINT)
    assert_same(vars(load_checkpoint(tmp_path / "checkpoint.pt")), vars(CHECKPOINT))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@given(
    histories=st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 1.5, float("inf")]), min_size=3, max_size=3),
        max_size=5,
    ),
    nodes=st.dictionaries(st.integers(2, 9), st.sampled_from([b"a", b"bb"])),
)
def test_what_rounds_and_clients_share_comes_back_for_each(
    histories: list[list[float]], nodes: dict[int, bytes]
) -> None:
    """Saved round by round, as the server does."""
    history, lines = [], list[bytes]()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        for epsilons in [[], *histories]:
            history.append(replace(RECORD, round=len(history) + 1, epsilons=epsilons))
            saved = replace(CHECKPOINT, history=history, contexts=nodes)
            save_checkpoint(path, saved, lines)
        found = load_checkpoint(path)
    assert_same(found.history, history)
    assert_same(found.contexts, dict(sorted(nodes.items())))


def test_clients_that_wait_take_no_room(tmp_path: Path) -> None:
    def size(clients: int) -> int:
        kept = dict.fromkeys(range(2, 52), b"what fifty clients keep alike")
        epsilons = [0.5] * 50 + [0.0] * (clients - 50)
        history = [replace(RECORD, epsilons=epsilons)] * 20
        path = tmp_path / "checkpoint.pt"
        save_checkpoint(path, replace(CHECKPOINT, epsilons=[], history=history, contexts=kept))
        return path.stat().st_size

    assert size(10_000) < size(50) + 100


def test_a_checkpoint_of_before_is_read(tmp_path: Path) -> None:
    """With all epsilons in every round, and the whole context of every client."""
    state = RecordDict({"teacher": ConfigRecord({"sha256": "abc"})})
    contexts = {
        2: context_to_proto(Context(1, 2, {"partition-id": 0}, state, {})).SerializeToString(),
        3: context_to_proto(Context(1, 3, {}, RecordDict(), {})).SerializeToString(),
    }
    raw = {
        **vars(CHECKPOINT),
        "history": json.dumps([asdict(record) for record in CHECKPOINT.history]),
        "contexts": {
            i: torch.frombuffer(bytearray(one), dtype=torch.uint8) for i, one in contexts.items()
        },
    }
    save_tensors(tmp_path / "checkpoint.pt", raw)
    kept = {2: recorddict_to_proto(state).SerializeToString(), 3: b""}
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert_same(vars(found), vars(replace(CHECKPOINT, contexts=kept)))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FedliteError, match=r"checkpoint\.pt: cannot be read"):
        load_checkpoint(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FedliteError, match="cannot be read"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_an_interrupted_write_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    save = torch.save

    def half(value: object, file: Path) -> None:
        save(value, file)
        file.write_bytes(file.read_bytes()[:50])
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos: no space left")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(FedliteError, match=r"checkpoint\.pt: cannot be written"):
        save_checkpoint(path, replace(CHECKPOINT, round=3))
    monkeypatch.undo()
    assert load_checkpoint(path).round == 2
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
