"""The students a search can build, as points of a space, and the config files they become."""

import dataclasses
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from fedlite.compress.options import CompressOptions
from fedlite.models.options import ModelOptions
from fedlite.search.harness import OBJECTIVES, Space
from fedlite.search.options import StudentSearchOptions
from fedlite.search.trials import Choice, Options

STAGED = "fedlite.models.staged.StagedNet"
HAND_SET: Options = {"student": "hand-set"}  # of a candidate that the space cannot express
HEAD = "# Chosen by `fedlite search-student`; use it with `fedlite simulate student=FILE`.\n"


def student_space(config: StudentSearchOptions) -> Space:
    """Number of stages, and of each its block, width, depth and kernel size."""
    most = max(config.stages)
    choices: dict[str, list[Choice]] = {"stages": sorted(set(config.stages))}
    for stage in range(most):
        choices[f"block_{stage}"] = list(dict.fromkeys(config.blocks))
        choices[f"width_{stage}"] = sorted(set(config.widths))
        choices[f"depth_{stage}"] = sorted(set(config.depths))
        choices[f"kernel_size_{stage}"] = sorted(set(config.kernel_sizes))

    def simplify(genes: Options) -> Options:
        there = {str(stage) for stage in range(int(genes["stages"]))}
        return {
            name: value
            for name, value in genes.items()
            if name == "stages" or name.rpartition("_")[2] in there
        }

    return Space(choices, simplify, {**OBJECTIVES, "parameters": "minimize"})


def frame_of(student: ModelOptions) -> dict[str, Any]:
    """What all students of a search share: stem, expansion, norm and activation.

    They are those of ``student`` where it is a :class:`~fedlite.models.staged.StagedNet`; else
    nothing is said and its defaults hold.
    """
    if student.module != STAGED:
        return {}
    return {name: value for name, value in student.kwargs.items() if name != "stages"}


def student_of(options: Options, frame: dict[str, Any]) -> ModelOptions:
    """The student that a point of :func:`student_space` stands for."""
    stages = [
        {key: options[f"{key}_{stage}"] for key in ("block", "width", "depth", "kernel_size")}
        for stage in range(int(options["stages"]))
    ]
    return ModelOptions(name="searched", module=STAGED, kwargs={"stages": stages, **frame})


def genes_of(student: ModelOptions, space: Space) -> Options:
    """A value for every option of ``space`` that makes ``student``, or :data:`HAND_SET`."""
    if student.module != STAGED:
        return HAND_SET
    stages = student.kwargs["stages"]
    genes = {name: values[0] for name, values in space.choices.items()}
    genes |= {"stages": len(stages)}
    genes |= {f"{key}_{at}": value for at, one in enumerate(stages) for key, value in one.items()}
    inside = genes.keys() == space.choices.keys() and all(
        value in space.choices[name] for name, value in genes.items()
    )
    return genes if inside else HAND_SET


def least_bytes(model: nn.Module, compress: CompressOptions) -> float:
    """What a file of ``model`` holds at least: its weights, not its biases, norms or graph."""
    bits = {"none": 32, "fp16": 16}.get(compress.quantization, compress.bits)
    weights = sum(one.numel() for one in model.parameters() if one.dim() > 1)
    return weights * bits / 8


def student_yaml(student: ModelOptions) -> str:
    """A student as a config file, in the form of those in ``conf/student/``."""
    return HEAD + OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(student)))
