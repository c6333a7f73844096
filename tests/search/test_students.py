"""Searching a student: measured before it is trained, scored by a short distillation."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn

from fedlite.base.compute import CPU, moved
from fedlite.base.errors import UsageError
from fedlite.base.records import Cost, Latency
from fedlite.compress.exporting import export_file
from fedlite.compress.options import CompressOptions, TargetOptions
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import ModelOptions
from fedlite.search.options import StudentSearchOptions
from fedlite.search.result import one_line
from fedlite.search.student_space import (
    HAND_SET,
    STAGED,
    frame_of,
    genes_of,
    least_bytes,
    student_of,
    student_space,
    student_yaml,
)
from fedlite.search.students import search_student
from tests.second_device import SECOND, Second
from tests.tasks import shaped

from .conftest import CNN, World

SMALL = StudentSearchOptions(
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


BY_HAND = ModelOptions("cnn", CNN, {"channels": [8, 8], "hidden": 8})
SHUFFLED = ModelOptions(
    "staged",
    STAGED,
    {
        "stages": [{"block": "channel_shuffle", "width": 8, "depth": 1, "kernel_size": 3}],
        "activation": "tanh",
    },
)


def by_parameters(model: nn.Module, folder: Path) -> Path:
    """Writes the number of parameters, from which :func:`cost_of` makes costs."""
    path = folder / "student.onnx"
    path.write_text(str(count_parameters(model)))
    return path


def cost_of(path: Path, config: Any) -> Cost:
    size = int(path.read_text())
    return Cost(4 * size, 0, {"1": Latency(*[size / 1e4] * 3)}, 1.0, 1, "made up")


def search(
    world: World,
    directory: Path,
    config: StudentSearchOptions,
    compress: CompressOptions | None = None,
    **others: Any,
) -> Any:
    made_up = {"export": by_parameters, "measure": cost_of, "default": BY_HAND}
    return search_student(
        world.trained,
        world.task,
        world.public,
        world.validation,
        config,
        compress or world.config.compress,
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
    model = build_model(ModelOptions(**saved), world.task, seed=0)
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
    config = dataclasses.replace(SMALL, trials=10, target=TargetOptions(bytes=limit))
    result = search(world, tmp_path, config).search
    by_hand, *others = result.trials
    over = [one for one in others if one.outcome.bytes > limit]
    assert over
    assert all(one.outcome.accuracy is None for one in over)
    assert trained == [one.outcome.parameters for one in [by_hand, *others] if one not in over]
    assert result.reached


def test_a_student_that_cannot_be_built_is_a_failed_trial(world: World, tmp_path: Path) -> None:
    """A channel shuffle wants an even width."""
    target = TargetOptions(bytes=100_000)
    config = dataclasses.replace(
        SMALL, trials=3, blocks=["channel_shuffle"], widths=[15], depths=[1, 2], target=target
    )
    by_hand, *others = search(world, tmp_path, config).search.trials
    assert by_hand.outcome is not None
    assert all("even" in one.reason for one in others)
    assert others


def test_an_unreachable_target_names_the_nearest(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, target=TargetOptions(latency_ms=0.001))
    found = search(world, tmp_path, config)
    assert not found.search.reached
    assert found.search.best.latency_ms == min(
        one.outcome.latency_ms for one in found.search.trials
    )
    assert found.path.exists()


def test_the_student_set_by_hand_is_judged_whatever_it_costs(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, target=TargetOptions(bytes=1_000))
    result = search(world, tmp_path, config).search
    assert result.trials[0].options == HAND_SET
    assert result.default.bytes > 1_000
    assert result.default.accuracy is not None
    assert result.default.parameters == count_parameters(build_model(BY_HAND, world.task, seed=0))


def test_where_nothing_better_is_found_the_student_set_by_hand_is_handed_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the search finds knows nothing here."""

    def distil(model: nn.Module, *args: Any, **others: Any) -> None:
        if isinstance(model, type(world.trained)):
            model.load_state_dict(world.trained.state_dict())

    monkeypatch.setattr("fedlite.search.students.distil_on_public", distil)
    known = ModelOptions("cnn", CNN, {"channels": [8, 8]})
    found = search(world, tmp_path, SMALL, default=known)
    assert found.search.chosen.number == 0
    assert found.student == known
    assert OmegaConf.to_container(OmegaConf.load(found.path)) == dataclasses.asdict(known)
    assert "set by hand" in one_line(found.search)


def test_a_student_of_stages_set_by_hand_is_a_point_of_the_space(
    world: World, tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL, trials=3, blocks=["plain", "channel_shuffle"])
    found = search(world, tmp_path, config, default=SHUFFLED)
    by_hand, *others = found.search.trials
    assert by_hand.options["block_0"] == "channel_shuffle"
    assert by_hand.options not in [one.options for one in others]
    assert found.student.kwargs["activation"] == "tanh"  # of all students, then


def test_what_the_space_cannot_express_is_a_candidate_from_outside() -> None:
    space = student_space(SMALL)
    assert genes_of(BY_HAND, space) == HAND_SET
    assert genes_of(SHUFFLED, space) == HAND_SET  # SMALL has no such block
    assert frame_of(BY_HAND) == {}
    options = {name: values[-1] for name, values in space.choices.items()}
    assert genes_of(student_of(options, {}), space) == options


def test_students_whose_weights_alone_are_too_large_are_not_tried(
    world: World, tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL, trials=30, target=TargetOptions(bytes=14_000))
    compress = dataclasses.replace(world.config.compress, quantization="none")
    _, *others = search(world, tmp_path, config, compress).search.trials
    assert 0 < len(others) < 20
    for one in others:
        student = student_of(one.options, {})
        model = build_model(student, world.task, seed=0)
        assert least_bytes(model, compress) <= 14_000


@pytest.mark.parametrize(
    ("quantization", "bits"), [("none", 8), ("fp16", 8), ("static", 8), ("weight_only", 4)]
)
def test_no_file_is_smaller_than_its_weights(
    world: World, tmp_path: Path, quantization: str, bits: int
) -> None:
    compress = dataclasses.replace(world.config.compress, quantization=quantization, bits=bits)
    path = tmp_path / "student.onnx"
    export_file("onnx", world.trained, world.task, path, compress, world.public, quantized=True)
    assert path.stat().st_size > least_bytes(world.trained, compress)


def test_the_teacher_is_asked_once_for_all_students(world: World, tmp_path: Path) -> None:
    asked: list[int] = []
    hook = world.trained.register_forward_hook(lambda *_: asked.append(1))
    search(world, tmp_path, SMALL)
    hook.remove()
    assert len(asked) == SMALL.steps


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
        default=SHUFFLED,
    )
    best = found.search.best
    assert best.latency_ms > 0
    assert best.bytes == (tmp_path / best.file).stat().st_size


def test_students_are_trained_where_their_teacher_is(world: World, tmp_path: Path) -> None:
    """On another device; the files of their trials are made on the processor."""
    found = {}
    for device in (CPU, SECOND):
        before = Second.operations
        with moved(device, world.trained):
            found[device] = search(world, tmp_path / device.type, SMALL).search
        assert (Second.operations > before) == (device == SECOND)
    here, there = (
        [one.outcome.accuracy for one in found[device].trials if one.outcome]
        for device in (CPU, SECOND)
    )
    assert there == pytest.approx(here, abs=0.03)


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
    student = student_of(options, {})  # type: ignore[arg-type]
    assert [stage["width"] for stage in student.kwargs["stages"]] == [8, 16]
    build_model(student, shaped((1, 28, 28), 10), seed=0)
    assert "search-student" in student_yaml(student)
