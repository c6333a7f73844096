"""Parts of a student that nobody trains: features are computed once, arrays stay as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedlite.data.types import ClientData
from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation import workbench
from fedlite.federation.messages import ARRAYS, State, to_state
from fedlite.federation.noise_walk import TrainedWeights
from fedlite.federation.student_check import check_student
from fedlite.federation.workbench import TrainedPart, Workbench
from fedlite.models.build import FixedFrontEnd, build_model, frozen_names
from fedlite.models.cnn import CNN
from fedlite.models.options import ModelOptions
from fedlite.models.scattering import ScatteringCNN
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.options import PrivacyOptions
from fedlite.runs.config import Config
from tests.federation.scripted import STUDENT, ScriptedClients, add, federation, run_scripted
from tests.privacy.world import ClientWorld
from tests.tasks import texts

SCATTERING = ("student=scattering", "student.kwargs.orientations=2")


def reply(world: ClientWorld, server_round: int = 1) -> State:
    return to_state(world.train(server_round=server_round).content.array_records[ARRAYS])


def test_cached_features_train_the_same_student(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(*SCATTERING, "privacy.randomness=deterministic")
    cached = reply(ClientWorld(config, tmp_path / "cached"))

    def everything(self: Workbench, data: ClientData, taught: Answers) -> TrainedPart:
        losses = TaughtExamples(self.loss, data.inputs, data.labels, taught)
        return TrainedPart(self.student, losses, len(data))

    monkeypatch.setattr(Workbench, "trained_part", everything)
    whole = reply(ClientWorld(config, tmp_path / "whole"))
    assert list(cached) == list(whole)
    for name, value in whole.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-4, atol=1e-6)


def test_features_are_computed_once_for_all_rounds(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = workbench.features_of

    def counting(student: FixedFrontEnd, data: ClientData) -> Tensor:
        seen.append(len(data))
        return original(student, data)

    world = ClientWorld(tiny_config(*SCATTERING), tmp_path)
    assert world.client().workbench, "built, and tried on made-up inputs, before they are counted"
    monkeypatch.setattr(workbench, "features_of", counting)
    reply(world, 1)
    assert sum(seen) == len(world.splits.client(0))
    reply(world, 2)
    assert sum(seen) == len(world.splits.client(0))


def test_frozen_names_are_buffers_and_parameters_without_gradient() -> None:
    model = CNN((1, 8, 8), 10, channels=[4], hidden=8, norm=None)
    assert frozen_names(model) == frozenset()
    weight = next(name for name, _ in model.named_parameters())
    model.get_parameter(weight).requires_grad_(requires_grad=False)
    model.register_buffer("mean", torch.zeros(1))
    assert frozen_names(model) == {weight, "mean"}


@pytest.mark.parametrize("unit", ["none", "client"])
def test_the_server_keeps_frozen_arrays_whatever_comes_in(tmp_path: Path, unit: str) -> None:
    plan = ClientPlan.build(
        epsilon=8.0,
        delta=None,
        noise_multiplier=None,
        clip=1.0,
        participation_rate=1.0,
        num_clients=3,
        rounds=2,
        accountant="rdp",
        randomness="secure",
        adaptive=False,
        target_quantile=0.5,
        clip_learning_rate=0.2,
        bit_noise=None,
    )
    made = federation(tmp_path, 3, client_plan=plan if unit == "client" else None)
    made.frozen = frozenset({"bias"})
    run_scripted(ScriptedClients([add(1)] * 3), made)
    assert torch.equal(made.result["bias"], STUDENT["bias"])
    assert not torch.equal(made.result["weight"], STUDENT["weight"])


def test_names_alone_do_not_make_a_front_end_fixed() -> None:
    class Trained(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = torch.nn.Linear(2, 2)
            self.head = torch.nn.Linear(2, 2)

    assert not isinstance(Trained(), FixedFrontEnd)
    assert isinstance(ScatteringCNN((1, 8, 8), 10, orientations=1), FixedFrontEnd)


@pytest.mark.parametrize("name", ["TextBag", "TextCNN", "TextTransformer"])
def test_a_frozen_table_of_vectors_passes_the_trial_and_is_not_counted(name: str) -> None:
    task, path = texts(), f"fedlite.models.text.{name}"
    whole, frozen = (
        build_model(ModelOptions(name, path, {"freeze_words": one}), task, seed=0)
        for one in (False, True)
    )
    loss = build_loss(DistillOptions())
    check_student(frozen, whole, loss, task, PrivacyOptions(), workbench.trained_part)
    assert task.vocabulary is not None
    fewer = TrainedWeights.of(whole).count - TrainedWeights.of(frozen).count
    assert fewer == frozen.state_dict()["words.table.weight"].numel()
