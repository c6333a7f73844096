"""Searching a student: measured before it is trained, scored by a short distillation."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn

from fedlite.config import ModelConfig, StudentSearchConfig, TargetConfig
from fedlite.errors import UsageError
from fedlite.models.build import build_model, count_parameters
from fedlite.records import Cost, Latency
from fedlite.search.students import search_student, student_of, student_space, student_yaml

from .conftest import CNN, World

SMALL = StudentSearchConfig(
    trials=4,
    population=3,
    blocks=["plain", "inverted_residual"],
    widths=[8, 16],
    depths=[1],
    kernel_sizes=[3],
    stages=[1, 2],
    steps=15,
    max_accuracy_drop=0.05,
)


def by_parameters(model: nn.Module, folder: Path) -> Path:
    """Writes the number of parameters, from which :func:`cost_of` makes costs."""
    path = folder / "student.onnx"
    path.write_text(str(count_parameters(model)))
    return path


def cost_of(path: Path, config: Any) -> Cost:
    size = int(path.read_text())
    return Cost(4 * size, 0, {"1": Latency(*[size / 1e4] * 3)}, 1.0, 1, "made up")


def search(world: World, directory: Path, config: StudentSearchConfig, **others: Any) -> Any:
    made_up = {"export": by_parameters, "measure": cost_of}
    return search_student(
        world.trained,
        world.task,
        world.public,
        world.validation,
        config,
        world.config.compress,
        world.config.distill,
        world.config.dataset.augment,
        directory,
        0,
        **{**made_up, **others},
    )


def test_the_smallest_near_the_best_is_written_as_a_config_file(
    world: World, tmp_path: Path
) -> None:
    found = search(world, tmp_path, SMALL)
    result = found.search
    accuracies = [one.outcome.accuracy for one in result.trials]
    near = [one for one in result.trials if max(accuracies) - one.outcome.accuracy <= 0.05]
    assert result.best.parameters == min(one.outcome.parameters for one in near)
    saved = OmegaConf.to_container(OmegaConf.load(found.path))
    assert saved == dataclasses.asdict(found.student)
    model = build_model(ModelConfig(**saved), world.task.input_shape, 10, seed=0)
    assert count_parameters(model) == result.best.parameters


def test_the_same_search_finds_the_same(world: World, tmp_path: Path) -> None:
    found = [search(world, tmp_path / name, SMALL).search for name in ("one", "other")]
    assert [one.outcome for one in found[0].trials] == [one.outcome for one in found[1].trials]


def test_what_is_over_the_limits_is_not_trained(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def distil(model: nn.Module, *args: Any, **others: Any) -> None:
        trained.append(count_parameters(model))

    monkeypatch.setattr("fedlite.search.students.distil_on_public", distil)
    limit = 12_000
    config = dataclasses.replace(SMALL, trials=10, target=TargetConfig(bytes=limit))
    result = search(world, tmp_path, config).search
    over = [one for one in result.trials if one.outcome.bytes > limit]
    assert over
    assert all(one.outcome.accuracy is None for one in over)
    assert sorted(trained) == sorted(one.outcome.parameters for one in result.feasible)
    assert result.reached


def test_an_unreachable_target_names_the_nearest_and_trains_nothing(
    world: World, tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL, target=TargetConfig(bytes=10))
    found = search(world, tmp_path, config)
    assert not found.search.reached
    assert found.search.best.accuracy is None
    assert found.search.best.bytes == min(one.outcome.bytes for one in found.search.trials)
    assert found.path.exists()


def test_a_student_set_by_hand_is_judged_in_the_same_way(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, trials=1, target=TargetConfig(bytes=10))
    by_hand = ModelConfig("cnn", CNN, {"channels": [8, 8], "hidden": 8})
    default = search(world, tmp_path, config, default=by_hand).search.default
    assert default.accuracy is not None
    assert default.parameters == count_parameters(
        build_model(by_hand, world.task.input_shape, 10, seed=0)
    )


def test_exported_and_measured_as_it_would_be_served(world: World, tmp_path: Path) -> None:
    compress = dataclasses.replace(world.config.compress, norms="fold", quantization="static")
    found = search_student(
        world.trained,
        world.task,
        world.public,
        world.validation,
        dataclasses.replace(SMALL, trials=1, stages=[1], blocks=["channel_shuffle"], steps=2),
        compress,
        world.config.distill,
        world.config.dataset.augment,
        tmp_path,
        0,
    )
    best = found.search.best
    assert best.latency_ms > 0
    assert best.bytes == (tmp_path / best.file).stat().st_size


def test_inputs_without_space_are_refused(world: World, tmp_path: Path) -> None:
    flat = dataclasses.replace(world, task=dataclasses.replace(world.task, input_shape=(64,)))
    with pytest.raises(UsageError, match="need images"):
        search(flat, tmp_path, SMALL)


def test_stages_that_are_not_there_make_no_difference() -> None:
    space = student_space(SMALL)
    genes = {name: values[0] for name, values in space.choices.items()}
    assert set(space.simplify({**genes, "stages": 1})) == {
        "stages",
        "block_0",
        "width_0",
        "depth_0",
        "kernel_size_0",
    }
    assert space.simplify({**genes, "stages": 2}) == {**genes, "stages": 2}


@pytest.mark.parametrize("block", ["plain", "inverted_residual", "channel_shuffle"])
def test_every_block_of_the_space_builds(block: str) -> None:
    options = {"stages": 2}
    for stage in range(2):
        options |= {f"width_{stage}": 8 * (stage + 1), f"depth_{stage}": 2}
        options |= {f"kernel_size_{stage}": 3, f"block_{stage}": block}  # type: ignore[dict-item]
    student = student_of(options)  # type: ignore[arg-type]
    assert [stage["width"] for stage in student.kwargs["stages"]] == [8, 16]
    build_model(student, (1, 28, 28), 10, seed=0)
    assert "search-student" in student_yaml(student)
