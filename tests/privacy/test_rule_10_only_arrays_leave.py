"""Rule 10: only state dict arrays leave a client, under the plain model's names."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.federation import client_app
from fedlite.federation.messages import ARRAYS, check_arrays
from fedlite.models.mlp import MLP
from fedlite.privacy.bookkeeping import BookKeeping
from fedlite.privacy.clipping import OpacusHooks
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld

# --- the checks -----------------------------------------------------------------------------


def check_sent_names(world: ClientWorld) -> None:
    sent = world.train(1).content.array_records[ARRAYS]
    assert list(sent) == list(world.student.state_dict()), "the names sent are not the student's"


def check_nothing_hangs_on_the_student(world: ClientWorld) -> None:
    """After training: no gradient of one example, no real batch, no hook of Opacus."""
    world.train(1)
    student = world.client().workbench.student
    held = [
        getattr(p, a, None)
        for p in student.parameters()
        for a in ("grad_sample", "summed_grad", "grad")
    ]
    held += [getattr(module, "activations", None) or None for module in student.modules()]
    hooks = [hook for module in student.modules() for hook in module._forward_hooks.values()]
    assert not hooks, "private values hang on the student"
    assert all(value is None for value in held), "private values hang on the student"


def check_no_pickled_module(folder: Path) -> None:
    files = [*folder.rglob("*.pt"), *folder.rglob("*.pth"), *folder.rglob("*.pkl")]
    assert files
    for file in files:
        with zipfile.ZipFile(file) as archive:
            (pickle,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            names = archive.read(pickle)
        assert b"fedlite" not in names, "a pickled module"
        assert b"torch.nn" not in names, "a pickled module"
        torch.load(file, weights_only=True)


def test_sent_names_are_the_plain_model_s(client_world: Callable[..., ClientWorld]) -> None:
    check_sent_names(client_world())


@pytest.mark.usefixtures("every_engine")
def test_an_engine_leaves_nothing_behind_on_the_student(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_nothing_hangs_on_the_student(client_world())


def test_no_artefact_is_a_pickled_module(finished_run: Path) -> None:
    check_no_pickled_module(finished_run)


# --- planted bugs ---------------------------------------------------------------------------


def names_of_a_wrapped_module(patch: pytest.MonkeyPatch) -> None:
    real = client_app.trained_reply

    def reply(message: Message, arrays: ArrayRecord, epsilon: float) -> Message:
        wrapped = {f"_module.{name}": array for name, array in arrays.items()}
        return real(message, ArrayRecord(wrapped), epsilon)

    patch.setattr(client_app, "trained_reply", reply)


def per_sample_gradients_sent_along(patch: pytest.MonkeyPatch) -> None:
    real = client_app.trained_reply

    def reply(message: Message, arrays: ArrayRecord, epsilon: float) -> Message:
        gradients = {
            f"{name}.grad_sample": Array(array.numpy()[None]) for name, array in arrays.items()
        }
        return real(message, ArrayRecord({**arrays, **gradients}), epsilon)

    patch.setattr(client_app, "trained_reply", reply)


@pytest.mark.parametrize("plant", [names_of_a_wrapped_module, per_sample_gradients_sent_along])
def test_planted_names_are_caught_and_rejected_by_the_server(
    plant: Plant, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world()
    plant(monkeypatch)
    with caught("the names sent are not the student's"):
        check_sent_names(world)
    arrays = world.train(2).content.array_records[ARRAYS]
    with pytest.raises(FedliteError, match="names differ"):
        check_arrays(arrays, world.student.state_dict())


CLEAN = OpacusHooks._clean


def no_cleanup(self: OpacusHooks | BookKeeping) -> None:
    """The engine's hooks stay on the student."""


def sums_that_are_not_forgotten(self: OpacusHooks) -> None:
    """The clipped sum stays on the student."""
    sums = [parameter.summed_grad for parameter in self._clipper.params]
    CLEAN(self)
    for parameter, summed in zip(self._clipper.params, sums, strict=True):
        parameter.summed_grad = summed


@pytest.mark.parametrize(
    ("gradients", "planted", "bug"),
    [
        ("opacus", (OpacusHooks, "_clean"), no_cleanup),
        ("opacus", (OpacusHooks, "_clean"), sums_that_are_not_forgotten),
        ("bookkeeping", (BookKeeping, "_clean"), no_cleanup),
    ],
)
def test_planted_leftovers_are_caught(
    gradients: str,
    planted: tuple[type, str],
    bug: Callable[..., None],
    client_world: Callable[..., ClientWorld],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = client_world(f"privacy.gradients={gradients}")
    assert world.client().workbench  # whose check of the student would notice, too
    monkeypatch.setattr(*planted, bug)
    with caught("private values hang on the student"):
        check_nothing_hangs_on_the_student(world)


@pytest.mark.parametrize("module", [MLP((1, 8, 8), 10), nn.Linear(2, 2)], ids=["own", "torch"])
def test_planted_pickles_are_caught(module: nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "good.pt")
    check_no_pickled_module(tmp_path)
    torch.save(module, tmp_path / "student.pt")
    with caught("a pickled module"):
        check_no_pickled_module(tmp_path)
