"""The pruning schedule as a whole: cuts, masks and recovery, in one round or in several."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.base.errors import UsageError
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.schedule import prune_and_recover
from fedlite.compress.shrink.sparsify import count_nonzero, prunable_weights
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData
from fedlite.distill.evaluate import evaluate_model
from fedlite.models.build import build_model
from tests.compress.conftest import CNN, SHAPE, Digits
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def run(student: nn.Module, digits: Digits, config: CompressOptions, **options) -> nn.Module:
    reference = options.pop("reference", student)
    return prune_and_recover(
        student, reference, digits.task, digits.public, config, AugmentOptions(), 0, **options
    )


@given(
    ratio=st.sampled_from([0.0, 0.3, 0.6]),
    sparsity=st.floats(min_value=0, max_value=0.95),
    criterion=st.sampled_from(["l2", "taylor", "random"]),
    sparsity_criterion=st.sampled_from(["global", "local", "gradient"]),
    iterations=st.integers(1, 4),
    steps=st.integers(0, 5),
)
@settings(max_examples=8)
def test_every_plan_ends_at_the_same_widths_counts_and_steps(
    student, digits, ratio, sparsity, criterion, sparsity_criterion, iterations, steps
):
    config = CompressOptions(
        ratio=ratio,
        criterion=criterion,
        sparsity=sparsity,
        sparsity_criterion=sparsity_criterion,
        schedule="iterative",
        iterations=iterations,
        recovery_steps=steps,
    )
    done: list[int] = []
    pruned = run(student, digits, config, on_step=done.append)
    assert not pruned.training
    assert shapes(pruned) == shapes(prune_channels(student, SHAPE, ratio, config.round_to))
    if ratio or sparsity:
        assert done == list(range(1, steps + 1))
    sizes = [weight.numel() for weight in prunable_weights(pruned).values()]
    if sparsity_criterion != "local":
        sizes = [sum(sizes)]
    assert count_nonzero(pruned) == sum(size - int(sparsity * size) for size in sizes)


def test_without_pruning_it_is_an_equal_copy(student, digits: Digits):
    done: list[int] = []
    config = CompressOptions(ratio=0.0, schedule="iterative")
    copied = run(student, digits, config, on_step=done.append)
    assert copied is not student
    assert done == []
    for name, value in student.state_dict().items():
        assert torch.equal(copied.state_dict()[name], value)


@pytest.mark.parametrize("schedule", ["one_shot", "iterative"])
def test_half_the_channels_and_half_the_weights_still_know_the_digits(student, digits, schedule):
    config = CompressOptions(
        ratio=0.5, sparsity=0.5, schedule=schedule, recovery_steps=150, recovery_learning_rate=3e-3
    )
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pruned = run(student, digits, config)
    full = evaluate_model(student, digits.test, 10).accuracy
    assert evaluate_model(pruned, digits.test, 10).accuracy > full - 0.05
    assert all(torch.equal(student.state_dict()[name], value) for name, value in before.items())


def test_the_same_arguments_give_the_same_bits(student, digits: Digits):
    config = CompressOptions(
        criterion="taylor",
        sparsity=0.5,
        sparsity_criterion="gradient",
        schedule="iterative",
        iterations=2,
        recovery_steps=4,
    )
    first, second = (run(student, digits, config).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_whoever_is_the_reference_teaches(student, digits: Digits):
    """A reference of other answers: the pruned student ends closer to it."""
    other = build_model(CNN, shaped(SHAPE, 10), seed=9).eval()
    with torch.no_grad():
        other.classifier[-1].weight *= 20
    config = CompressOptions(ratio=0.3, recovery_steps=100, recovery_learning_rate=3e-3)
    models = other, run(student, digits, config, reference=other), run(student, digits, config)
    with torch.no_grad():
        wanted, pupil, own = (model(digits.test.inputs).argmax(dim=1) for model in models)
    assert (pupil == wanted).float().mean() > 2 * (own == wanted).float().mean()


def test_private_data_is_an_error_at_the_call_before_anything_is_done(student, digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    for config in (CompressOptions(), CompressOptions(ratio=0.0)):
        with pytest.raises(TypeError, match="ClientData"):
            prune_and_recover(
                student, student, digits.task, private, config, AugmentOptions(), seed=0
            )


def test_a_wrong_layer_is_refused_before_any_step(student, digits: Digits):
    done: list[int] = []
    config = CompressOptions(layer_ratios={"feature.0": 0.5})
    with pytest.raises(UsageError, match=r"feature\.0: no such layer; near: features\.0"):
        run(student, digits, config, on_step=done.append)
    assert done == []
