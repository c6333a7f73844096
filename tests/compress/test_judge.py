"""The compression stage as a whole, and its options in ``conf/``."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.compress.judge import CompressedStudent, compress_student
from fedlite.compress.options import (
    CompressOptions,
    CompressSearchOptions,
    MeasureOptions,
    TargetOptions,
)
from fedlite.compress.shrink.pruned_file import load_pruned
from fedlite.compress.shrink.shrinker import Shrinker
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, PublicData
from fedlite.distill.evaluate import evaluate_logits
from fedlite.models.build import count_parameters
from fedlite.runs.compose import parse_config, store_defaults
from fedlite.runs.conf import conf_dir
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.conftest import CNN, SHAPE, Digits
from tests.tasks import shaped

OPTIONS = ["default", "dynamic", "weight_only", "fp16", "qat", "search", "none"]


def compressed(
    student: nn.Module, digits: Digits, config: CompressOptions, directory: Path
) -> CompressedStudent:
    """The stage, judged on the last 200 of the public digits."""
    public = PublicData(digits.public.inputs[:800], digits.public.labels[:800])
    validation = PublicData(digits.public.inputs[800:], digits.public.labels[800:])
    shrinker = Shrinker(student, student, digits.task, public, AugmentOptions(), seed=0)
    return compress_student(shrinker, validation, config, directory)


def accuracy(path: Path, digits: Digits) -> float:
    logits = logits_of(open_runtime(path), digits.test.inputs.numpy())
    return evaluate_logits(logits, digits.test.labels, 10).accuracy


def test_the_stage_makes_small_files_that_know_the_digits(
    student: nn.Module, student_path: Path, digits: Digits, tmp_path: Path
) -> None:
    config = CompressOptions(ratio=0.25, sparsity=0.3, recovery_steps=150)
    made = compressed(student, digits, config, tmp_path / "models")
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        "pruned_student.pt",
        "pruned_student.onnx",
        "quantized_student.onnx",
    }
    assert made.parameters_before == made.parameters_folded == count_parameters(student)
    assert made.parameters_after < 0.7 * made.parameters_before
    assert made.nonzero_weights < 0.75 * made.parameters_after
    assert made.max_difference < 1e-4
    assert made.shipped == {"onnx": "quantized_student.onnx"}
    fp32, int8 = made.artefacts
    assert (fp32.precision, int8.precision) == ("fp32", "int8")
    assert fp32.snr_db > int8.snr_db > 20
    assert fp32.agreement == 1 >= int8.agreement > 0.95
    assert int8.public_accuracy + int8.accuracy_drop == pytest.approx(
        made.public_accuracy["federated_student"]
    )
    assert int8.float_ops == ["Gemm (1 of 2)", "Tanh"]
    full = accuracy(student_path, digits)
    for artefact in made.artefacts:
        assert accuracy(tmp_path / "models" / artefact.file, digits) > full - 0.04
    loaded = load_pruned(tmp_path / "models/pruned_student.pt", CNN, shaped(SHAPE, 10))
    runtime = open_runtime(tmp_path / "models/pruned_student.onnx")
    with torch.no_grad():
        expected = loaded(digits.test.inputs)
    found = torch.from_numpy(logits_of(runtime, digits.test.inputs.numpy()))
    assert torch.allclose(found, expected, atol=1e-4)


def test_what_is_not_compressed_is_the_student(
    student: nn.Module, student_path: Path, digits: Digits, tmp_path: Path
) -> None:
    made = compressed(student, digits, CompressOptions(ratio=0.0, quantization="none"), tmp_path)
    (artefact,) = made.artefacts
    assert made.shipped == {"onnx": artefact.name}
    assert (tmp_path / "pruned_student.onnx").read_bytes() == student_path.read_bytes()


def test_a_refused_file_says_why_and_the_next_best_ships(
    student: nn.Module, digits: Digits, tmp_path: Path
) -> None:
    config = CompressOptions(ratio=0.0, min_snr_db=60.0)
    made = compressed(student, digits, config, tmp_path)
    fp32, int8 = made.artefacts
    assert "60" in int8.refused
    assert f"{int8.snr_db:.1f}" in int8.refused
    assert not fp32.refused
    assert made.shipped == {"onnx": fp32.name}


def test_where_pruning_lost_too_much_the_federated_student_ships(
    student: nn.Module, digits: Digits, tmp_path: Path
) -> None:
    config = CompressOptions(ratio=0.8, recovery_steps=0, max_accuracy_drop=0.02)
    made = compressed(student, digits, config, tmp_path)
    *lost, federated = made.artefacts
    assert all("max_accuracy_drop" in artefact.refused for artefact in lost)
    assert made.shipped == {"onnx": federated.name}
    assert federated.file == "federated_student.onnx"


def test_where_nothing_may_ship_every_reason_is_said(
    student: nn.Module, digits: Digits, tmp_path: Path
) -> None:
    config = CompressOptions(ratio=0.0, min_snr_db=500.0)
    with pytest.raises(FedliteError, match=r"no onnx file may ship \(pruned_student\.onnx: .*500"):
        compressed(student, digits, config, tmp_path)


def test_private_data_cannot_judge(student: nn.Module, digits: Digits, tmp_path: Path) -> None:
    private: Any = ClientData(0, digits.public.inputs, digits.public.labels)
    shrinker = Shrinker(student, student, digits.task, digits.public, AugmentOptions(), seed=0)
    with pytest.raises(TypeError, match="ClientData"):
        compress_student(shrinker, private, CompressOptions(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_composes_and_spells_out_the_whole_schema(name: str) -> None:
    store_defaults()
    with initialize_config_dir(str(conf_dir()), version_base=None):
        composed = compose("config", overrides=[f"compress={name}", "run.dir=unused"]).compress
    for node, schema in (
        (composed, CompressOptions),
        (composed.measure, MeasureOptions),
        (composed.target, TargetOptions),
        (composed.search, CompressSearchOptions),
    ):
        assert set(node) == {field.name for field in dataclasses.fields(schema)}
    with initialize_config_dir(str(conf_dir()), version_base=None):
        parsed = parse_config(compose("config", overrides=[f"compress={name}", "run.dir=x"]))
    static = name in ("default", "search")
    assert parsed.compress.quantization == ("static" if static else name)
    assert (parsed.compress.ratio == 0) == (name == "none")
    assert parsed.compress.search.enabled == (name == "search")
