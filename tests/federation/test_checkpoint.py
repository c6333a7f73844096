"""The run's checkpoint: whole, or the one before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation, RoundRecord
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
