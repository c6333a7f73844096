"""Gradient inversion: what a server could see of one planted public example in one update.

Two attacks on the same gradient. The input of the first dense layer follows from that layer's
gradient in closed form, because the gradient of its weights is an outer product with that input
(Geiping et al. 2020, arXiv 2003.14053, proposition 3.1). The example itself, where it is not that
input, is searched so that its gradient points the same way (their section 4). The setting favours
the attacker: the example is alone in its batch, its label and the teacher's answer are known.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.audit.audited import sum_level
from fedlite.data.types import PublicData
from fedlite.distill.answers import Answers, answers_of
from fedlite.distill.loss import Loss, TaughtExamples
from fedlite.federation.plans import Plans
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.workbench import TrainedPart
from fedlite.privacy.client_level import clip_update, release_average
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness, Randomness
from fedlite.report.audit_sections import InversionEntry

State = dict[str, Tensor]

PLAIN, CLIPPED, NOISED, NOISE_ALONE = "plain", "clipped", "noised", "noise_alone"
GAIN = 1000.0  # of the observed step: float32 weights would round a small gradient away
SEARCHES = ((0.3, 0.0), (0.3, 0.0), (0.3, 1.0), (0.03, 1.0), (0.03, 1.0))
"""Learning rate, in normalised units, and weight of the features of each search for an example."""
VARIATION_WEIGHT = 0.03


@dataclass(frozen=True)
class Inversion:
    """What the attacks made of each gradient, by its name: ``plain``, ``clipped``, ``noised``.

    ``cosine`` compares examples, ``features_cosine`` inputs of the first dense layer, both after
    their mean is taken off. ``noise_alone`` is what the attacks make of noise: the level of chance.
    ``features_cosine`` is empty where no dense layer reads one vector for each example. ``shown``
    says what ``original`` and ``reconstructions`` are: ``example``, or ``features`` where the
    student passes no gradient on to its input, so that nothing can be searched.
    """

    original: Tensor
    reconstructions: dict[str, Tensor]
    cosine: dict[str, float]
    features_cosine: dict[str, float]
    layer: str
    method: str
    shown: str = "example"

    def record(self, noise_multiplier: float | None) -> InversionEntry:
        """The entry of ``audits.json``; None where nothing was noised."""
        return {
            "layer": self.layer,
            "method": self.method,
            "shown": self.shown,
            "cosine": self.cosine,
            "features_cosine": self.features_cosine,
            "noise_multiplier": noise_multiplier,
        }


def observed_gradients(
    student: nn.Module,
    loss: Loss,
    planted: PublicData,
    taught: Answers,
    plans: Plans,
    learning_rate: float,
    randomness: Randomness,
) -> dict[str, State]:
    """The gradient of the planted example (one row) as it leaves the real mechanism.

    ``plain`` has no protection. With a plan there are ``clipped``, ``noised`` with the plan's noise
    (under trust aggregate, that of the sum), and ``noise_alone``. Where only whole clients are
    protected, the gradient times ``learning_rate`` is a client's update.
    """
    plain = _one_step(student, loss, planted, taught, None, randomness)
    if plans.example is not None:
        plan = sum_level(plans.example)
        silent = replace(plan, noise_multiplier=0.0)
        clipped = _one_step(student, loss, planted, taught, silent, randomness)
        noised = _one_step(student, loss, planted, taught, plan, randomness)
    elif plans.client is not None:
        update = {name: learning_rate * value for name, value in plain.items()}
        clip = plans.client.clip
        clipped = {name: value.float() for name, value in clip_update(update, clip)[0].items()}
        noised = release_average([update], update, plans.client, clip, randomness).average
    else:
        return {PLAIN: plain}
    chance = DeterministicRandomness(0)
    alone = {name: chance.normal(tuple(value.shape)) for name, value in plain.items()}
    return {PLAIN: plain, CLIPPED: clipped, NOISED: noised, NOISE_ALONE: alone}


def _one_step(
    student: nn.Module,
    loss: Loss,
    planted: PublicData,
    taught: Answers,
    plan: PrivacyPlan | None,
    randomness: Randomness,
) -> State:
    """Minus the change of all weights in one step of a client, per unit of learning rate."""
    trained = copy.deepcopy(student)
    losses = TaughtExamples(loss, planted.inputs, planted.labels, taught)
    work = LocalWork(1, 1.0, 1.0, learning_rate=GAIN, momentum=0.0)
    train_client(trained, TrainedPart(trained, losses, 1), work, plan, randomness)
    before = dict(student.named_parameters())
    return {
        name: ((before[name] - parameter) / GAIN).detach()
        for name, parameter in trained.named_parameters()
        if parameter.requires_grad
    }


def invert(
    student: nn.Module,
    loss: Loss,
    planted: PublicData,
    taught: Answers,
    gradients: dict[str, State],
    *,
    steps: int,
    seed: int,
    bounds: tuple[float, float],
    on_step: Callable[[], None] = lambda: None,
) -> Inversion:
    """Attack every one of ``gradients``.

    Args:
        student: the network that the gradients are of; not changed.
        loss: of one example, as in training.
        planted: the one example (1, ...).
        taught: the teacher's answers on it.
        gradients: by name; from :func:`observed_gradients`.
        steps: of each search.
        seed: of the point where a search starts.
        bounds: lowest and highest normalised value of public examples.
        on_step: called after each step of a search.
    """
    student = copy.deepcopy(student).eval()
    layer, features = first_dense_input(student, planted.inputs)
    found: dict[str, Tensor] = {}
    if features is not None:
        for name, gradient in gradients.items():
            found[name] = dense_input(gradient[f"{layer}.weight"], gradient.get(f"{layer}.bias"))
    original, shown = planted.inputs[0], "example"
    if features is not None and torch.equal(features, original.flatten()):
        method = "closed form"
        guesses = {name: guess.reshape(original.shape) for name, guess in found.items()}
    elif _reaches_input(student, planted.inputs):
        method = f"gradient matching, best of {len(SEARCHES)} searches of {steps} steps"
        guesses = {
            name: match_gradient(
                student,
                loss,
                planted,
                taught,
                gradient,
                layer=layer,
                features=found.get(name),
                steps=steps,
                seed=seed,
                bounds=bounds,
                on_step=on_step,
            )[0]
            for name, gradient in gradients.items()
        }
    else:
        method, shown = "closed form, input of the first dense layer only", "features"
        original, guesses = torch.zeros(0) if features is None else features, found
    low, high = bounds if shown == "example" else _range(original)
    return Inversion(
        original=original,
        reconstructions={name: guess.clamp(low, high) for name, guess in guesses.items()},
        cosine={name: centred_cosine(guess, original) for name, guess in guesses.items()},
        features_cosine={
            name: centred_cosine(guess, features)
            for name, guess in found.items()
            if features is not None
        },
        layer=layer,
        method=method,
        shown=shown,
    )


def _range(values: Tensor) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)


def _reaches_input(student: nn.Module, inputs: Tensor) -> bool:
    """Whether the answer can be differentiated by the input; by numbers of tokens it cannot."""
    if not inputs.is_floating_point():
        return False
    asked = inputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(student(asked).sum(), asked, allow_unused=True)
    return slope is not None


def centred_cosine(first: Tensor, second: Tensor) -> float:
    """Cosine similarity of two tensors of one size after their means are taken off."""
    one, two = first.flatten().double(), second.flatten().double()
    return float(F.cosine_similarity(one - one.mean(), two - two.mean(), dim=0))


def first_dense_input(student: nn.Module, inputs: Tensor) -> tuple[str, Tensor | None]:
    """Name and input (d,) of the first dense layer that a forward pass of one example reaches.

    ("", None) if there is none, or if it reads more than one vector for each example.
    """
    seen: list[tuple[str, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.append((name, args[0].detach()))
        )
        for name, module in student.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        student(inputs)
    for hook in hooks:
        hook.remove()
    if not seen or seen[0][1].dim() != 2:
        return "", None
    return seen[0][0], seen[0][1][0]


def dense_input(weight: Tensor, bias: Tensor | None) -> Tensor:
    """A dense layer's input from the gradients of its weight (out, in) and bias (out,).

    For one example the weight's gradient is the bias' times the input; of a noised one the best
    approximation of rank one is taken. Without a bias the scale is lost, and the sign is a guess.
    """
    left, size, right = torch.linalg.svd(weight.double(), full_matrices=False)
    direction: Tensor = right[0]
    if bias is None:
        return direction.float() * direction.sum().sign().float()
    along = left[:, 0] @ bias.double()
    scale: Tensor = size[0] / (along + 1e-30)
    return (direction * scale).float()


def match_gradient(
    student: nn.Module,
    loss: Loss,
    planted: PublicData,
    taught: Answers,
    gradient: State,
    *,
    layer: str,
    features: Tensor | None,
    steps: int,
    seed: int,
    bounds: tuple[float, float],
    on_step: Callable[[], None],
) -> Tensor:
    """Search an example (1, ...) whose gradient has the direction of ``gradient``.

    The best of several searches; of ``planted`` only the shape and the label are used. Some also
    steer by ``features``, the input of ``layer`` that the gradient gave away: where the student is
    all but right, two opposite errors have gradients of nearly one direction. All else is as in
    :func:`invert`.
    """
    parameters = [student.get_parameter(name) for name in gradient]
    wanted = torch.cat([value.flatten() for value in gradient.values()])
    reached: list[Tensor] = []
    hook = student.get_submodule(layer).register_forward_pre_hook(
        lambda _, args: reached.append(args[0])
    )

    def distances(guess: Tensor) -> tuple[Tensor, Tensor]:
        """Of the gradients with a little total variation, and of the features."""
        reached.clear()
        answers = answers_of(student, guess, loss.student_taps)
        losses = loss(answers, planted.labels, taught)
        own = torch.autograd.grad(losses.sum(), parameters, create_graph=True)
        flat = torch.cat([value.flatten() for value in own])
        apart = 1 - F.cosine_similarity(flat, wanted, dim=0)
        apart = apart + VARIATION_WEIGHT * _total_variation(guess)
        if features is None:
            return apart, torch.zeros(())
        return apart, 1 - F.cosine_similarity(reached[0][0], features, dim=0)

    generator = torch.Generator().manual_seed(seed)
    best, lowest = torch.zeros_like(planted.inputs), float("inf")
    for rate, weight in SEARCHES:
        start = 0.1 * torch.randn(planted.inputs.shape, generator=generator)
        guess, value = _search(distances, start, rate, weight, steps, bounds, on_step)
        if value < lowest:
            best, lowest = guess, value
    hook.remove()
    return best


def _search(
    distances: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    rate: float,
    weight: float,
    steps: int,
    bounds: tuple[float, float],
    on_step: Callable[[], None],
) -> tuple[Tensor, float]:
    """Lower the first distance plus ``weight`` times the second; return the last first one.

    By the signs of the slope, with Adam and cosine decay, within ``bounds``.
    """
    guess, value = start.clone().requires_grad_(), float("inf")
    optimizer = torch.optim.Adam([guess], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        apart, features_apart = distances(guess)
        (slope,) = torch.autograd.grad(apart + weight * features_apart, guess)
        guess.grad, value = slope.sign(), float(apart.detach())
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            guess.clamp_(*bounds)
        on_step()
    return guess.detach(), value


def _total_variation(example: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, summed over the spatial dimensions (1, C, ...)."""
    total = torch.zeros(())
    for axis in range(2, example.dim()):
        total = total + example.diff(dim=axis).abs().mean()
    return total
