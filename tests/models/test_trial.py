"""Classes of one's own that raise, or answer or want something else: one line with the remedy."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.models.trial import check_training
from tests.tasks import shaped

TASK = shaped((1, 4, 4), 3)


class Plain(nn.Module):
    """What the others go astray from."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(16, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.finish(self.layer(inputs.view(len(inputs), -1)))

    def finish(self, logits: Tensor) -> Tensor:
        return logits


@dataclass
class Output:
    """As libraries of language models answer."""

    logits: Tensor


def answering(finish: Callable[[Tensor], object]) -> type[nn.Module]:
    return type("Answering", (Plain,), {"finish": lambda self, logits: finish(logits)})


def raising(error: BaseException, when: str) -> type[nn.Module]:
    def fail(self: nn.Module, *_: object, **__: object) -> None:
        raise error

    return type("Raising", (Plain,), {when: fail})


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class WithoutShape(nn.Linear):
    def __init__(self) -> None:
        super().__init__(16, 3)


class OtherNames(Plain):
    def __init__(self, in_dim: int, n_classes: int) -> None:
        super().__init__((in_dim,), n_classes)


class Wide(Plain):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int) -> None:
        super().__init__(input_shape, num_classes)


def refused(cls: object, monkeypatch: pytest.MonkeyPatch, **kwargs: object) -> str:
    monkeypatch.setattr(sys.modules[__name__], "Foreign", cls, raising=False)
    with pytest.raises(UsageError) as caught:
        build_model(ModelOptions("mine", f"{__name__}.Foreign", kwargs), TASK, seed=0)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("finish", "says"),
    [
        (lambda logits: (logits, logits), "not tuple; let forward return .* such as answer[0]"),
        (lambda logits: [logits], "not list; let forward return .* such as answer[0]"),
        (lambda logits: {"logits": logits}, "not dict; let forward return .* answer['logits']"),
        (lambda logits: {"out": logits, "aux": logits}, "not dict; .* answer['out']"),
        (Output, "not Output; let forward return its .logits"),
        (lambda logits: None, "not NoneType; let forward return the tensor of logits"),
        (lambda logits: logits.detach().numpy(), "not ndarray; let forward return a torch tensor"),
        (lambda logits: logits.half(), "in float32, not float16; let forward end with .float()"),
        (lambda logits: logits.argmax(1), "not (2,); "),
        (lambda logits: logits[:, :2], "not (2, 2); let its last layer have num_classes=3"),
        (lambda logits: logits[:, :, None], "not (2, 3, 1); let it flatten, pool"),
        (lambda logits: logits.T, "not (3, 2); keep the examples of the batch in dimension 0"),
        (lambda logits: logits.squeeze(), "(1, 3), not (3,); .*(squeeze() takes it away)"),
        (lambda logits: logits.mean(0), "not (3,); keep the examples"),
    ],
)
def test_another_answer_is_told_what_to_return(
    finish: Callable[[Tensor], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(answering(finish), monkeypatch)
    assert "must answer logits of shape (" in line
    assert all(part in line for part in says.split(".*")), line


@pytest.mark.parametrize("when", ["__init__", "forward"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("depth must be odd\nand more"), "depth must be odd (test_trial.py, line "),
        (KeyError("depth"), "KeyError: 'depth' (test_trial.py, line "),
        (AssertionError(), "AssertionError (test_trial.py, line "),
        (StopIteration(), "StopIteration (test_trial.py, line "),
        (SystemExit("bad settings"), "SystemExit: bad settings (test_trial.py, line "),
        (Speechless(), "Speechless (test_trial.py, line "),
    ],
)
def test_whatever_it_raises_is_one_line_with_the_place(
    error: BaseException, says: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(raising(error, when), monkeypatch)
    assert line.startswith(f"mine ({__name__}.Foreign): "), line
    assert says in line


def test_ctrl_c_is_the_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = raising(KeyboardInterrupt(), "forward")
    monkeypatch.setattr(sys.modules[__name__], "Foreign", foreign, raising=False)
    with pytest.raises(KeyboardInterrupt):
        build_model(ModelOptions("mine", f"{__name__}.Foreign"), TASK, seed=0)


@pytest.mark.parametrize(
    ("cls", "kwargs", "says"),
    [
        (WithoutShape, {}, "takes nothing; let it take input_shape and num_classes too"),
        (OtherNames, {}, "takes in_dim, n_classes; let it take input_shape and num_classes too"),
        (Wide, {}, "needs 'width'; give it in kwargs, as +student.kwargs.width=VALUE"),
        (Wide, {"widht": 3}, "takes no 'widht', which kwargs give; did you mean width?"),
        (Plain, {"depth": 3}, "takes no 'depth', which kwargs give; it takes input_shape, num_cl"),
        (
            lambda input_shape, num_classes: None,
            {},
            "a function, not a subclass of torch.nn.Module",
        ),
        (WithoutShape(), {}, "a WithoutShape, not a subclass of torch.nn.Module; give a class"),
        (Output, {}, "a class, not a subclass of torch.nn.Module; give a class that inherits"),
    ],
)
def test_a_class_that_wants_something_else_is_told_what_it_gets(
    cls: object, kwargs: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert says in refused(cls, monkeypatch, **kwargs)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(:", "cannot import: SyntaxError: invalid syntax"),
        (
            "raise OSError('no licence')",
            "cannot import: OSError: no licence (broken_one.py, line 1)",
        ),
        ("import sys; sys.exit(3)", "cannot import: SystemExit: 3 (broken_one.py, line 1)"),
        (
            "import no_such_package",
            "cannot import: No module named 'no_such_package' (broken_one.py",
        ),
        ("class Smaller: pass", "has no attribute 'Small'; did you mean Smaller?"),
    ],
)
def test_a_module_that_fails_is_one_line_with_the_place(
    text: str, says: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_one.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    with pytest.raises(UsageError) as caught:
        build_model(ModelOptions("mine", "broken_one.Small"), TASK, seed=0)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("module=broken_one.Small: ")
    assert says in line


class Auxiliary(Plain):
    """Answers a second head while it is trained, as networks of image libraries do."""

    def finish(self, logits: Tensor) -> Tensor:
        return (logits, logits) if self.training else logits


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Auxiliary, "teacher: in training mode it must answer logits of shape (4, 3), not tuple"),
        (answering(lambda logits: logits.detach()), "teacher: its answer has no gradient"),
        (raising(KeyError("mask"), "forward"), "teacher: fails in training mode: KeyError: 'mask'"),
    ],
)
def test_a_network_that_cannot_be_trained_is_told_so(cls: type[nn.Module], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_training(cls((1, 4, 4), 3), torch.randn(4, 1, 4, 4), 3, "teacher")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(says)


def test_trying_to_train_moves_nothing() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Dropout())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_training(model, torch.randn(4, 1, 4, 4, generator=torch.Generator()), 3, "teacher")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
