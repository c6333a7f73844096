"""Searching the options of compression with the real pruning, export and runtime."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import FedliteError
from fedlite.base.records import Cost, Latency, Measurement
from fedlite.compress.exporting import export_file
from fedlite.compress.options import (
    CompressOptions,
    CompressSearchOptions,
    MeasureOptions,
    TargetOptions,
)
from fedlite.compress.shrink.schedule import prune_and_recover
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, TestData
from fedlite.distill.evaluate import evaluate_logits
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.search.compression import (
    compression_space,
    search_compression,
    with_options,
)
from fedlite.serve.runtime import logits_of, open_runtime

from .conftest import CNN, World

BY_HAND = CompressOptions(
    ratio=0.3,
    round_to=1,
    recovery_steps=20,
    max_accuracy_drop=0.2,
    search=CompressSearchOptions(
        enabled=True,
        trials=5,
        population=3,
        ratios=[0.0, 0.5],
        criteria=["l2", "random"],
        quantizations=["none", "static", "weight_only"],
        recovery_steps=[5, 20],
    ),
)


@pytest.fixture
def make(world: World) -> Callable[[CompressOptions, Path], Path]:
    """The real thing: prune, recover, export, quantize."""

    def made(config: CompressOptions, folder: Path) -> Path:
        path = folder / "student.onnx"
        pruned = prune_and_recover(
            world.trained, world.trained, world.task, world.public, config, AugmentOptions(), 0
        )
        quantized = config.quantization != "none"
        export_file("onnx", pruned, world.task, path, config, world.public, quantized=quantized)
        return path

    return made


def quickly(
    path: Path, data: PublicData, num_classes: int, parameters: int, config: MeasureOptions
) -> Measurement:
    """Bytes and accuracy as they are, in this process; a latency that follows the bytes."""
    logits = logits_of(open_runtime(path), data.inputs.numpy())
    evaluation = evaluate_logits(logits, data.labels, num_classes)
    size = path.stat().st_size
    latency = Latency(*[size / 1e5] * 3)
    cost = Cost(size, 0, {"1": latency}, 1.0, 1, "by bytes")
    return Measurement(evaluation.accuracy, evaluation.macro_f1, parameters, cost)


def search(world: World, directory: Path, make: Any, config: CompressOptions, **others: Any) -> Any:
    return search_compression(
        make, world.trained, world.task, world.validation, config, directory, 0, **others
    )


def test_the_smallest_file_within_the_limits_is_delivered(
    world: World, tmp_path: Path, make: Any
) -> None:
    config = dataclasses.replace(BY_HAND, search=dataclasses.replace(BY_HAND.search, trials=3))
    found = search(world, tmp_path, make, config, measure=quickly)
    result = found.search
    assert result.reached
    assert len(result.trials) == 3
    assert result.default == result.trials[0].outcome
    assert found.path.stat().st_size == result.best.bytes
    assert result.best.bytes == min(one.outcome.bytes for one in result.feasible)
    assert result.best.bytes <= result.default.bytes
    remade = make(found.config, tmp_path)
    assert remade.read_bytes() == found.path.read_bytes()


def test_the_same_search_finds_the_same(world: World, tmp_path: Path) -> None:
    found = [
        search(world, tmp_path / name, write_ratio, BY_HAND, measure=made_up(0.1)).search
        for name in ("one", "other")
    ]
    assert [one.options for one in found[0].trials] == [one.options for one in found[1].trials]
    assert found[0].chosen.options == found[1].chosen.options


def test_measured_in_a_fresh_process(world: World, tmp_path: Path, make: Any) -> None:
    config = dataclasses.replace(
        BY_HAND,
        measure=world.config.compress.measure,
        search=dataclasses.replace(BY_HAND.search, trials=1),
    )
    best = search(world, tmp_path, make, config).search.best
    assert best.latency_ms > 0
    assert best.bytes == (tmp_path / best.file).stat().st_size
    assert best.accuracy > 0.5


def made_up(ratio_costs: float = 0.0) -> Any:
    """A measurement by formula: bytes and latency fall with the ratio, accuracy with its square."""

    def measure(path: Path, data: Any, classes: int, parameters: int, config: Any) -> Measurement:
        ratio = float(path.read_text())
        latency = Latency(*[0.2 * (1 - ratio)] * 3)
        cost = Cost(round(1e5 * (1 - ratio)), 0, {"1": latency}, 1.0, 1, "made up")
        return Measurement(0.9 - ratio_costs * ratio**2, 0.9, parameters, cost)

    return measure


def write_ratio(config: CompressOptions, folder: Path) -> Path:
    path = folder / "student.onnx"
    path.write_text(str(config.ratio))
    return path


def test_a_latency_target_alone_asks_for_the_fastest(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(BY_HAND, target=TargetOptions(latency_ms=0.15))
    found = search(world, tmp_path, write_ratio, config, measure=made_up())
    assert found.search.wanted == "latency_ms"
    assert found.search.reached
    both = dataclasses.replace(config, target=TargetOptions(latency_ms=0.15, bytes=10**6))
    found = search(world, tmp_path, write_ratio, both, measure=made_up())
    assert found.search.wanted == "bytes"


def test_an_unreachable_target_gives_the_nearest(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(BY_HAND, max_accuracy_drop=1.0, target=TargetOptions(bytes=100))
    found = search(world, tmp_path, write_ratio, config, measure=made_up(0.1))
    result = found.search
    assert not result.reached
    assert result.best.bytes == min(one.outcome.bytes for one in result.trials)
    assert found.path.exists()


def test_a_trial_that_cannot_be_made_does_not_end_the_search(world: World, tmp_path: Path) -> None:
    def make(config: CompressOptions, folder: Path) -> Path:
        if config.quantization == "static":
            raise FedliteError("cannot be quantized")
        return write_ratio(config, folder)

    config = dataclasses.replace(BY_HAND, search=dataclasses.replace(BY_HAND.search, trials=12))
    result = search(world, tmp_path, make, config, measure=made_up()).search
    assert result.default is None  # set by hand: static
    assert 0 < len(result.failed) < 12
    assert result.reached


def test_only_public_data_judges(world: World, tmp_path: Path) -> None:
    test = TestData(world.validation.inputs, world.validation.labels)
    with pytest.raises(TypeError, match="only PublicData"):
        search_compression(
            write_ratio,
            world.trained,
            world.task,
            test,  # type: ignore[arg-type]
            BY_HAND,
            tmp_path,
            0,
        )


def test_more_trials_go_on_and_other_limits_start_anew(world: World, tmp_path: Path) -> None:
    def run(config: CompressOptions) -> list[int]:
        new: list[int] = []
        search(
            world,
            tmp_path,
            write_ratio,
            config,
            measure=made_up(),
            on_trial=lambda trial: new.append(trial.number),
        )
        return new

    more = dataclasses.replace(BY_HAND, search=dataclasses.replace(BY_HAND.search, trials=7))
    assert run(BY_HAND) == [0, 1, 2, 3, 4]
    assert run(BY_HAND) == []
    assert run(more) == [5, 6]
    assert len(run(dataclasses.replace(more, max_accuracy_drop=0.3))) == 7


def test_another_student_starts_anew(world: World, tmp_path: Path) -> None:
    search(world, tmp_path, write_ratio, BY_HAND, measure=made_up())
    other = build_model(ModelOptions("cnn", CNN), world.task, seed=1)
    changed = dataclasses.replace(world, trained=other)
    new: list[int] = []
    search(
        changed,
        tmp_path,
        write_ratio,
        BY_HAND,
        measure=made_up(),
        on_trial=lambda trial: new.append(trial.number),
    )
    assert len(new) == 5


def test_the_space_holds_what_is_set_by_hand() -> None:
    config = dataclasses.replace(BY_HAND, ratio=0.33, criterion="taylor", recovery_steps=77)
    space = compression_space(config, foldable=True)
    assert space.first is not None
    for name, value in space.first.items():
        assert value in space.choices[name]
    assert space.choices["ratio"][:4] == [0.0, 0.05, 0.1, 0.15]
    assert space.choices["ratio"][-1] == 0.5
    assert space.choices["norms"] == ["fold", "keep"]
    assert compression_space(config, foldable=False).choices["norms"] == ["keep"]


def test_options_that_make_no_difference_are_left_out() -> None:
    simplify = compression_space(BY_HAND, foldable=True).simplify
    genes = {
        "ratio": 0.0,
        "criterion": "l2",
        "recovery_steps": 5,
        "norms": "keep",
        "quantization": "static",
        "bits": 4,
    }
    assert simplify(genes) == {"ratio": 0.0, "norms": "keep", "quantization": "static"}
    assert simplify({**genes, "quantization": "weight_only"})["bits"] == 4
    assert with_options(BY_HAND, simplify(genes)).bits == 8
    sparse = dataclasses.replace(BY_HAND, sparsity=0.5)
    assert compression_space(sparse, foldable=True).simplify(genes)["recovery_steps"] == 5


def test_a_trial_is_made_in_the_first_format_alone() -> None:
    config = dataclasses.replace(BY_HAND, formats=["litert", "onnx"])
    assert with_options(config, {}).formats == ["litert"]
