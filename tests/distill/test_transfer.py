"""Parameter transfer: the table of a student of texts, made of its teacher's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.options import DistillOptions
from fedlite.distill.pretrained import load_pretrained
from fedlite.distill.transfer import SPECIAL, principal_components, transfer_words
from fedlite.distill.warm_start import warm_start
from fedlite.models.build import build_model, frozen_names
from fedlite.models.options import ModelOptions
from tests.distill.test_pretrained import built, inputs_of, task_of
from tests.pretrained import TEXTS, pretrained_folder
from tests.tasks import shaped, texts

TABLE = "words.table.weight"
CLASSES = {"text_bag": "TextBag", "text_cnn": "TextCNN", "text_transformer": "TextTransformer"}


def network(task: Task, name: str = "text_bag", seed: int = 0, **kwargs: object) -> nn.Module:
    return build_model(
        ModelOptions(name, f"fedlite.models.text.{CLASSES[name]}", kwargs), task, seed
    )


def table_of(model: nn.Module) -> Tensor:
    return model.state_dict()[TABLE]


def test_components_are_those_in_which_rows_differ_most() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 2, generator=generator) * torch.tensor([3.0, 1.0])
    turned = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q[:2]
    rows = hidden @ turned + 5
    found = principal_components(rows, 2)
    torch.testing.assert_close(torch.pdist(found), torch.pdist(rows), rtol=1e-4, atol=1e-4)
    assert found[:, 0].std() > found[:, 1].std()
    torch.testing.assert_close(principal_components(rows + 1, 2), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CLASSES)
def test_a_student_begins_with_the_teacher_s_vectors(name: str) -> None:
    task = texts()
    teacher, student = network(task, "text_cnn", width=8), network(task, name, seed=1, width=8)
    transfer_words(student, teacher)
    found, own = table_of(student), table_of(teacher)[SPECIAL:]
    assert (found[:SPECIAL] == 0).all()
    near, far = torch.cdist(found[SPECIAL:], found[SPECIAL:]), torch.cdist(own, own)
    places = torch.triu_indices(len(own), len(own), 1)
    ratio = (near / far)[places[0], places[1]]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert float(found[SPECIAL:].std()) == pytest.approx(8**-0.5, rel=1e-3)


def test_a_pretrained_teacher_is_asked_about_every_token(tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a")
    task = task_of(folder)
    teacher = built(folder, task)
    load_pretrained(teacher, str(folder), task, new_head=True)
    first, again, other = (network(task, seed=seed, width=4) for seed in (0, 1, 2))
    for student in (first, again):
        transfer_words(student, teacher)
    assert torch.equal(table_of(first), table_of(again))
    assert not torch.equal(table_of(first), table_of(other))
    frozen = network(task, width=4, freeze_words=True)
    transfer_words(frozen, teacher)
    public = PublicData(inputs_of(task, TEXTS), torch.arange(len(TEXTS)) % 3)
    assert frozen_names(frozen) == {TABLE}
    warm_start(frozen, teacher, public, DistillOptions(), AugmentOptions(), seed=0)
    assert torch.equal(table_of(frozen), table_of(first))


def test_what_has_no_table_is_said() -> None:
    task, small = texts(), network(texts(), width=4)
    vectors = build_model(ModelOptions("mlp", "fedlite.models.mlp.MLP"), shaped((4,), 3), seed=0)
    with pytest.raises(UsageError, match=r"the student MLP has no table of vectors; use student="):
        transfer_words(vectors, small)
    with pytest.raises(UsageError, match=r"the teacher MLP has no table of vectors; use teacher="):
        transfer_words(small, vectors)
    with pytest.raises(UsageError, match=r"of 16 numbers, the teacher.s of 4; lower"):
        transfer_words(network(task, width=16), small)
