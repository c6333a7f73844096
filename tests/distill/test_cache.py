"""The teacher cache: trained once, by content; a damaged file is replaced."""

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from fedlite.base.cache import HOME_CACHE
from fedlite.base.errors import UsageError
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.cache import cached_teacher, cached_warm_start, teacher_cache_key
from fedlite.distill.options import DistillOptions, WarmStartOptions
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions

AUGMENT = AugmentOptions()


@pytest.fixture
def config(teacher_config, tmp_path):
    return dataclasses.replace(teacher_config, epochs=2, cache_dir=str(tmp_path / "cache"))


def test_the_second_call_does_not_train(config, task, digits, tmp_path):
    epochs = []
    arguments = (config, task, *digits, AUGMENT, 0, lambda *x: epochs.append(x))
    first, first_hit = cached_teacher(*arguments)
    assert (first_hit, len(epochs)) == (False, 2)
    second, second_hit = cached_teacher(*arguments)
    assert (second_hit, len(epochs)) == (True, 2)
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key
    assert not second.training
    assert not any(parameter.requires_grad for parameter in second.parameters())
    (stored,) = (tmp_path / "cache" / "teachers").iterdir()
    assert stored.name == teacher_cache_key(config, task, *digits, AUGMENT, 0) + ".pt"


@pytest.mark.parametrize("damage", [b"", b"not weights"])
def test_a_damaged_file_is_trained_again(config, task, digits, caplog, damage):
    arguments = (config, task, *digits, AUGMENT, 0)
    cached_teacher(*arguments)
    key = teacher_cache_key(*arguments)
    path = Path(config.cache_dir) / "teachers" / f"{key}.pt"
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        _, from_cache = cached_teacher(*arguments)
    assert not from_cache
    assert "damaged" in caplog.text
    assert cached_teacher(*arguments)[1]


def test_without_a_folder_nothing_is_kept(config, task, digits):
    config = dataclasses.replace(config, cache_dir=None)
    assert [cached_teacher(config, task, *digits, AUGMENT, 0)[1] for _ in range(2)] == [False] * 2


def test_a_folder_that_cannot_be_made_is_one_line(config, task, digits, tmp_path):
    (tmp_path / "file").touch()
    config = dataclasses.replace(config, cache_dir=str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"teacher\.cache_dir=.*file.*writable folder or null"):
        cached_teacher(config, task, *digits, AUGMENT, 0)


def test_a_home_that_cannot_be_written_does_without(config, task, digits, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    config = dataclasses.replace(config, cache_dir=HOME_CACHE)
    assert [cached_teacher(config, task, *digits, AUGMENT, 0)[1] for _ in range(2)] == [False] * 2


def test_the_key_depends_on_all_that_decides_the_weights(config, task, digits):
    public, validation = digits
    other_pixel, other_label = public.inputs.clone(), public.labels.clone()
    other_pixel[3, 0, 2, 2] += 1e-3
    other_label[3] = (other_label[3] + 1) % 10
    replace = dataclasses.replace
    variants = [
        (config, task, public, validation, AUGMENT, 0),
        (config, task, public, validation, AUGMENT, 0, torch.device("cuda")),
        (config, task, public, validation, AUGMENT, 1),
        (config, task, public, validation, AugmentOptions(shift=1), 0),
        (config, task, validation, public, AUGMENT, 0),
        (config, task, PublicData(other_pixel, public.labels), validation, AUGMENT, 0),
        (config, task, PublicData(public.inputs, other_label), validation, AUGMENT, 0),
        (replace(config, learning_rate=1e-3), task, public, validation, AUGMENT, 0),
        (replace(config, kwargs={"channels": [8]}), task, public, validation, AUGMENT, 0),
        (config, replace(task, class_names=tuple("012")), public, validation, AUGMENT, 0),
        (replace(config, module="fedlite.models.mlp.MLP"), task, public, validation, AUGMENT, 0),
    ]
    keys = {teacher_cache_key(*variant) for variant in variants}
    assert len(keys) == len(variants)
    moved = replace(config, cache_dir="elsewhere", name="renamed")
    assert teacher_cache_key(moved, task, public, validation, AUGMENT, 0) in keys


def test_the_key_depends_on_the_source_of_the_network(config, task, digits, tmp_path, monkeypatch):
    source = tmp_path / "cached_network.py"
    source.write_text("from fedlite.models.mlp import MLP\nclass Net(MLP): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = dataclasses.replace(config, module="cached_network.Net", kwargs={})
    before = teacher_cache_key(config, task, *digits, AUGMENT, 0)
    source.write_text(source.read_text() + "# edited\n")
    assert teacher_cache_key(config, task, *digits, AUGMENT, 0) != before


def test_a_public_student_is_warm_started_once(config, task, digits, tmp_path):
    public, _ = digits
    student_config = ModelOptions("mlp", "fedlite.models.mlp.MLP", {"hidden": [8]})
    teacher, _ = cached_teacher(config, task, *digits, AUGMENT, 0)
    distill = DistillOptions(warm_start=WarmStartOptions(epochs=1))
    steps = []

    def start(cache_dir, seed=0):
        student = build_model(student_config, task, seed=0)
        cached = cached_warm_start(
            cache_dir,
            student,
            student_config,
            teacher,
            public,
            distill,
            AUGMENT,
            seed,
            steps.append,
        )
        return student.state_dict(), cached

    folder = str(tmp_path / "cache")
    first, first_hit = start(folder)
    taken = len(steps)
    second, second_hit = start(folder)
    assert (first_hit, second_hit, len(steps)) == (False, True, taken)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not start(folder, seed=1)[1]
    assert not start(None)[1]
    for path in (tmp_path / "cache" / "public_students").iterdir():
        path.write_bytes(b"not weights")
    assert not start(folder)[1]
