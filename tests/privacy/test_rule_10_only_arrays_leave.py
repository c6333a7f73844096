"""Rule 10: only state dict arrays leave a client, under the plain model's names."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.privacy.world import ClientWorld


def test_sent_keys_are_the_plain_model_s(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world()
    sent = world.train(1).content.array_records["arrays"]
    assert list(sent) == list(world.student.state_dict())
    assert not any("_module" in name for name in sent)


def test_opacus_leaves_nothing_behind_on_the_student(
    client_world: Callable[..., ClientWorld],
) -> None:
    from fedlite.federation.node import Node

    world = client_world()
    world.train(1)
    student = Node.of(world.grid.contexts[2]).world.student
    for parameter in student.parameters():
        for attribute in ("grad_sample", "summed_grad", "_forward_counter"):
            assert getattr(parameter, attribute, None) is None
    assert not student._forward_hooks
    assert not any(getattr(module, "activations", None) for module in student.modules())


def test_no_artefact_is_a_pickled_module(finished_run: Path) -> None:
    files = [*finished_run.rglob("*.pt"), *finished_run.rglob("*.pth")]
    assert files
    for file in files:
        torch.load(file, weights_only=True)
        with zipfile.ZipFile(file) as archive:
            (pickle,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            assert b"fedlite" not in archive.read(pickle)
    assert not list(finished_run.rglob("*.pkl"))
