"""Losses that look inside: formulas written out, what they find to look at, what they refuse."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.distill.answers import Answers, answers_of
from fedlite.distill.loss import build_loss, check_separable
from fedlite.distill.losses.attention import attention_loss
from fedlite.distill.losses.decoupled import decoupled_loss
from fedlite.distill.losses.hints import hint_loss, random_projection
from fedlite.distill.losses.relations import relation_loss
from fedlite.distill.losses.soft import soft_loss
from fedlite.distill.options import LossOptions
from fedlite.distill.taps import Between, last_attention, last_layer, last_maps
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from tests.tasks import shaped, texts

TRANSFORMER = {"width": 24, "heads": 3, "depth": 1}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(name: str, shape=(1, 8, 8), seed: int = 0, **kwargs) -> nn.Module:
    options = [f"student={name}", *(f"student.kwargs.{key}={one}" for key, one in kwargs.items())]
    task = texts() if name.startswith("text") else shaped(shape)
    return build_model(compose_config(options).student, task, seed)


def between(student: nn.Module, teacher: nn.Module, shape=(1, 8, 8)) -> Between:
    return Between(student, teacher, torch.zeros(2, *shape))


# --- formulas -------------------------------------------------------------------------------


def test_decoupled_written_out():
    student, teacher = drawn(0, 1, 3), drawn(1, 1, 3)
    own, taught = ((one / 2).softmax(dim=1)[0] for one in (student, teacher))
    target = taught[1] * (taught[1] / own[1]).log()
    target += (1 - taught[1]) * ((1 - taught[1]) / (1 - own[1])).log()
    mine, theirs = (one[[0, 2]] / (1 - one[1]) for one in (own, taught))
    others = (theirs * (theirs / mine).log()).sum()
    expected = 0.3 * -student.softmax(dim=1)[0, 1].log() + 0.7 * 4 * (target + 5 * others)
    labels = torch.tensor([1])
    found = decoupled_loss(student, labels, teacher, alpha=0.3, temperature=2.0, weight=5.0)
    torch.testing.assert_close(found[0], expected)


def test_decoupled_is_soft_where_the_others_weigh_the_teacher_s_doubt():
    """``KL = TCKD + (1 - p) * NCKD``: Zhao et al. 2022, equation 6."""
    student, teacher, labels = drawn(0, 1, 5), drawn(1, 1, 5), torch.tensor([3])
    doubt = float(1 - (teacher / 3).softmax(dim=1)[0, 3])
    found = decoupled_loss(student, labels, teacher, alpha=0.2, temperature=3.0, weight=doubt)
    expected = soft_loss(student, labels, teacher, alpha=0.2, temperature=3.0)
    torch.testing.assert_close(found, expected)


def test_decoupled_of_two_classes_has_no_others():
    student, teacher, labels = drawn(0, 4, 2), drawn(1, 4, 2), torch.tensor([0, 1, 1, 0])
    losses = [
        decoupled_loss(student, labels, teacher, alpha=0.5, temperature=2.0, weight=weight)
        for weight in (0.0, 8.0)
    ]
    torch.testing.assert_close(*losses)


def test_attention_written_out():
    own, taught = drawn(0, 2, 3, 2, 2), drawn(1, 2, 5, 4, 4)
    for row, found in enumerate(attention_loss(own, taught)):
        mine = own[row].square().sum(dim=0).flatten()
        fine = taught[row].square().sum(dim=0)
        theirs = torch.stack([fine[y : y + 2, x : x + 2].mean() for y in (0, 2) for x in (0, 2)])
        expected = (mine / mine.norm() - theirs / theirs.norm()).square().sum()
        torch.testing.assert_close(found, expected)


def test_hints_written_out():
    own, taught, projection = drawn(0, 3, 4), drawn(1, 3, 7), drawn(2, 7, 4)
    for row, found in enumerate(hint_loss(own, taught, projection=projection)):
        theirs = taught[row] @ projection
        expected = 2 - 2 * F.cosine_similarity(own[row], theirs, dim=0)  # |a - b|^2 of unit vectors
        torch.testing.assert_close(found, expected)
    assert not hint_loss(own, 3 * own, projection=None).abs().max() > 1e-6


def test_hints_of_maps_are_the_mean_over_the_coarser_grid():
    own, taught = drawn(0, 2, 4, 2), drawn(1, 2, 4, 6)  # series
    places = [
        hint_loss(own[:, :, at], taught[:, :, 3 * at : 3 * at + 3].mean(dim=2), projection=None)
        for at in range(2)
    ]
    found = hint_loss(own, taught, projection=None)
    torch.testing.assert_close(found, torch.stack(places).mean(dim=0))
    pooled = hint_loss(own.mean(dim=2), taught.mean(dim=2), projection=None)
    torch.testing.assert_close(hint_loss(own.mean(dim=2), taught, projection=None), pooled)


def test_a_random_projection_keeps_distances_and_is_the_same_everywhere():
    projection, vectors = random_projection(300, 64), drawn(0, 50, 300)
    ratios = (vectors @ projection).norm(dim=1) / vectors.norm(dim=1)
    assert 0.9 < float(ratios.mean()) < 1.1
    assert torch.equal(projection, random_projection(300, 64))
    assert projection.abs().unique().tolist() == [0.125]


def test_relations_written_out():
    own, taught = drawn(0, 2, 3, 4), drawn(1, 2, 3, 8)
    for row, found in enumerate(relation_loss(own, taught, heads=2)):
        expected = []
        for head in range(2):
            mine, theirs = own[row, :, 2 * head :][:, :2], taught[row, :, 4 * head :][:, :4]
            for token in range(3):
                p = (theirs @ theirs[token] / 2).softmax(dim=0)
                q = (mine @ mine[token] / 2**0.5).softmax(dim=0)
                expected.append((p * (p / q).log()).sum())
        torch.testing.assert_close(found, torch.stack(expected).mean())


@pytest.mark.parametrize("name", ["attention", "hints"])
def test_a_term_comes_beside_soft_labels(name):
    student, teacher = network("cnn"), network("mobilenet")
    inputs, labels = drawn(3, 5, 1, 8, 8), torch.arange(5)
    options = LossOptions(name, alpha=0.25, temperature=3.0)

    def losses(**changes) -> Tensor:
        loss = build_loss(
            LossOptions(**{**vars(options), **changes}), (), between(student, teacher)
        )
        taps = loss.student_taps, loss.teacher_taps
        own, taught = map(answers_of, (student, teacher), (inputs, inputs), taps)
        return loss(own, labels, taught)

    soft = losses(loss="soft")
    torch.testing.assert_close(losses(weight=0.0), soft)
    once, twice = losses(weight=1.0) - soft, losses(weight=2.0) - soft
    assert (once > 0).all()
    torch.testing.assert_close(twice, 2 * once)


# --- what they find -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "layer", "maps"),
    [
        ("mlp", (1, 8, 8), "head:input", None),
        ("cnn", (1, 28, 28), "classifier.2:input", "features"),
        ("cnn", (3, 64), "classifier.2:input", "features"),
        ("mobilenet", (1, 28, 28), "head:input", "neck"),
        ("staged", (1, 28, 28), "head:input", "stages"),
        ("transformer", (1, 28, 28), "head:input", None),
        ("text_cnn", (6,), "head:input", "activation"),
        ("text_bag", (6,), "head:input", None),
    ],
)
def test_what_shipped_students_have_to_look_at(name, shape, layer, maps):
    model = network(name, shape)
    inputs = texts().blank(2) if name.startswith("text") else torch.zeros(2, *shape)
    assert (last_layer(model, inputs), last_maps(model, inputs)) == (layer, maps)
    assert (last_attention(model, inputs) is not None) == (name == "transformer")
    assert model.training
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_what_a_layer_is_given_is_what_its_output_follows_from():
    model, inputs = network("mlp"), drawn(0, 4, 1, 8, 8)
    answers = answers_of(model, inputs, ["head:input"])
    torch.testing.assert_close(model.head(answers.features["head:input"]), answers.logits)


# --- rows -----------------------------------------------------------------------------------


@cache
def networks_of(name: str) -> Between:
    if name == "relations":
        student = network("transformer", **TRANSFORMER)
        return between(student, network("transformer", seed=1, width=48, heads=4))
    return between(network("cnn"), network("mobilenet", seed=1))


@pytest.mark.parametrize("name", ["decoupled", "attention", "hints", "relations"])
@given(seed=st.integers(0, 10_000), n=st.integers(2, 6))
@settings(max_examples=10)
def test_another_example_leaves_the_losses_of_the_others_as_they_were(name, seed, n):
    given_networks = networks_of(name)
    loss = build_loss(LossOptions(name, alpha=0.3), (), given_networks)
    labels = torch.arange(n)

    def losses(inputs: Tensor) -> tuple[Tensor, Tensor]:
        own = answers_of(given_networks.student, inputs, loss.student_taps)
        taught = answers_of(given_networks.teacher, inputs, loss.teacher_taps)
        leaves = [one.detach().requires_grad_() for one in (own.logits, *own.features.values())]
        answers = Answers(leaves[0], dict(zip(own.features, leaves[1:], strict=True)))
        values = loss(answers, labels, taught)
        gradients = torch.autograd.grad(values.sum(), leaves)
        return values.detach(), torch.cat([one.flatten(1) for one in gradients], dim=1)

    inputs = drawn(seed, n, 1, 8, 8)
    other = inputs.clone()
    other[0] = 30 * drawn(seed + 1, 1, 8, 8)
    for one, changed in zip(losses(inputs), losses(other), strict=True):
        torch.testing.assert_close(one[1:], changed[1:], rtol=1e-5, atol=1e-6)
        assert not torch.equal(one[0], changed[0])


@pytest.mark.parametrize("name", ["decoupled", "attention", "hints", "relations"])
def test_what_looks_inside_passes_the_trial_of_rows(name):
    networks = networks_of(name)
    loss = build_loss(LossOptions(name, alpha=0.3), (), networks)
    own = answers_of(networks.student, networks.inputs, loss.student_taps)
    taught = answers_of(networks.teacher, networks.inputs, loss.teacher_taps)
    check_separable(loss, like=(own, taught))


# --- what they refuse -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "words"),
    [
        ("attention", "mlp", "cnn", r"the student \(MLP\) has no feature maps of convolutions; na"),
        ("attention", "cnn", "mlp", r"the teacher \(MLP\) has no feature maps of convolutions"),
        ("attention", "transformer", "cnn", r"the student \(Transformer\) has no feature maps"),
        ("attention", "scattering", "cnn", r"the student \(ScatteringCNN\) has no feature maps"),
        ("hints", "scattering", "cnn", "nothing that is trained lies before the student's"),
        ("relations", "cnn", "transformer", r"the student \(CNN\) has no fedlite.*Attention"),
        ("relations", "transformer", "cnn", r"the teacher \(CNN\) has no fedlite.*Attention"),
    ],
)
def test_networks_with_nothing_to_look_at_are_refused_in_one_line(loss, student, teacher, words):
    with pytest.raises(UsageError, match=f"^distill.loss={loss}: {words}") as caught:
        build_loss(LossOptions(loss), (), between(network(student), network(teacher)))
    assert "\n" not in str(caught.value)


def test_transformers_of_other_tokens_are_refused():
    student = network("transformer")
    for changes, words in (({"patch": 4}, "relates 16 tokens by 4 heads"), ({"width": 30}, "30")):
        teacher = network("transformer", heads=3, **changes)
        with pytest.raises(UsageError, match=f"^distill.loss=relations: .*{words}"):
            build_loss(LossOptions("relations"), (), between(student, teacher))


def test_layers_may_be_named():
    cnn, other = network("cnn", (1, 28, 28)), network("cnn", (1, 28, 28), seed=1)
    networks = between(cnn, other, (1, 28, 28))
    options = LossOptions("attention", student_layer="features.1", teacher_layer="features.2")
    loss = build_loss(options, (), networks)
    assert (loss.student_taps, loss.teacher_taps) == (["features.1"], ["features.2"])
    for layer, words in (
        ("features.9", "taps 'features.9', which the student does not have"),
        ("classifier.1", r"hold \(32,\) and \(32, 4, 4\) of an example; it takes 2 to 3 dim"),
    ):
        with pytest.raises(UsageError, match=words):
            build_loss(LossOptions("attention", student_layer=layer), (), networks)
