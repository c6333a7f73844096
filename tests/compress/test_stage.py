"""The compression stage as a whole, and its options in ``conf/``."""

import dataclasses

import pytest
import torch
from hydra import compose, initialize_config_dir

from fedlite.compose import conf_dir
from fedlite.compress.measure import evaluate_onnx
from fedlite.compress.pruned_file import load_pruned
from fedlite.compress.stage import choose, compress_student
from fedlite.config import (
    AugmentConfig,
    CompressConfig,
    MeasureConfig,
)
from fedlite.config_checks import parse_config
from fedlite.data.types import ClientData
from fedlite.models.build import count_parameters

from .conftest import CNN, SHAPE, Digits


def test_the_stage_makes_small_files_that_know_the_digits(
    student, student_path, digits: Digits, tmp_path
):
    config = CompressConfig(ratio=0.25, sparsity=0.3, recovery_steps=150)
    made = compress_student(
        student, digits.task, digits.public, config, AugmentConfig(), tmp_path / "run", seed=0
    )
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "pruned_student.pt",
        "pruned_student.onnx",
        "quantized_student.onnx",
    }
    assert made.parameters_before == count_parameters(student)
    assert made.parameters_after == count_parameters(made.model) < 0.7 * made.parameters_before
    assert made.nonzero_weights < 0.75 * made.parameters_after
    assert made.max_difference < 1e-4
    assert made.float_ops == ["Tanh"]
    assert made.pruned_gzip_bytes < 0.85 * made.pruned_path.stat().st_size
    assert made.quantized_gzip_bytes < made.pruned_gzip_bytes
    full = evaluate_onnx(student_path, digits.test, 10).accuracy
    for path in (made.pruned_path, made.quantized_path):
        assert evaluate_onnx(path, digits.test, 10).accuracy > full - 0.04
    loaded = load_pruned(made.pruned_model_path, CNN, SHAPE, 10)
    assert torch.equal(loaded(digits.test.inputs), made.model(digits.test.inputs))


def test_without_pruning_nothing_is_recovered(student, student_path, digits: Digits, tmp_path):
    steps: list[int] = []
    config = CompressConfig(ratio=0.0, quantization="none")
    made = compress_student(
        student, digits.task, digits.public, config, AugmentConfig(), tmp_path, 0, steps.append
    )
    assert steps == []
    assert made.pruned_path.read_bytes() == student_path.read_bytes()
    assert made.quantized_path.read_bytes() == student_path.read_bytes()


def test_the_stage_refuses_private_data(student, digits: Digits, tmp_path):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="ClientData"):
        compress_student(
            student, digits.task, private, CompressConfig(), AugmentConfig(), tmp_path / "run", 0
        )
    assert not (tmp_path / "run").exists()


def test_calibration_examples_are_drawn_once_each(digits: Digits):
    drawn = choose(digits.public, 100, seed=1)
    assert len(drawn) == 100
    assert len(torch.unique(drawn.inputs.flatten(1), dim=0)) > 95
    assert torch.equal(drawn.inputs, choose(digits.public, 100, seed=1).inputs)
    assert len(choose(digits.public, 5000, seed=1)) == len(digits.public)


@pytest.mark.parametrize("name", ["default", "dynamic", "weight_only", "none"])
def test_every_option_composes_and_spells_out_the_whole_schema(name):
    with initialize_config_dir(str(conf_dir()), version_base=None):
        composed = compose("config", overrides=[f"compress={name}", "run.dir=unused"])
    assert set(composed.compress) == {field.name for field in dataclasses.fields(CompressConfig)}
    assert set(composed.compress.measure) == {f.name for f in dataclasses.fields(MeasureConfig)}
    parsed = parse_config(composed).compress
    assert parsed.quantization == ("static" if name == "default" else name)
    assert (parsed.ratio == 0) == (name == "none")
