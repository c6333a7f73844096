"""A second device for tests, where there is no GPU: as strict as one, computed on the processor.

Tensors of ``second`` hold their numbers in a tensor of the processor that no other code sees. What
a GPU refuses is refused here: an operation on tensors of both devices (but for copies, indices and
single numbers), ``numpy``, a draw from a generator of the processor. What it draws comes from a
generator of its own. Every operation is the processor's, so that its results are the processor's
to the last bit, and ``operations`` counts them.

It is PyTorch's backend for devices of others (``privateuse1``), written in Python: made once in a
process, and without effect on tensors of the processor.
"""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing

from fedlite.base import compute

NAME = "gpu_of_tests"  # no layer or attribute of anybody has this name: modules get a method of it
# What takes tensors of both devices, on a GPU too: copies, and indices.
_OF_BOTH = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}


class Module:
    """What ``torch.get_device_module`` answers: that the device is there, and its generator."""

    _own = torch.Generator().manual_seed(0)

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def get_device_name(self, device: torch.device) -> str:
        return "a second processor"

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]  # checkpointing asks it of the device that is there, and uses none

    def manual_seed(self, seed: int) -> None:
        self._own.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        self._own.manual_seed(seed)

    def get_rng_state(self, device: torch.device) -> Tensor:
        return self._own.get_state()

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        self._own.set_state(state)


backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
SECOND = torch.device(NAME, 0)


class Second(Tensor):
    """A tensor of the second device."""

    operations: ClassVar[int] = 0
    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "Second":
        made: Second = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=SECOND,
        )
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation on the numbers, where a GPU would run it."""
        cls.operations += 1
        given, form = pytree.tree_flatten((args, kwargs or {}))
        stays = (kwargs or {}).get("device") in (None, SECOND, torch.device(NAME))
        name = func.overloadpacket.__name__
        if name not in _OF_BOTH and any(map(_is_of_the_processor, given)):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if stays and any(isinstance(one, torch.Generator) for one in given):
            raise RuntimeError(f"{name}: expected a '{NAME}' device type for generator")
        numbers = [one.numbers if isinstance(one, Second) else one for one in given]
        inner, named = pytree.tree_unflatten(numbers, form)
        if "device" in named:
            named = {**named, "device": torch.device("cpu")}
        with _own_draws(func):
            found = func(*inner, **named)
        known = {id(n): one for n, one in zip(numbers, given, strict=True) if isinstance(n, Tensor)}

        def outside(one: Any) -> Any:
            if not isinstance(one, Tensor):
                return one
            return known.get(id(one), Second(one) if stays else one)

        made = pytree.tree_map(outside, found)
        return return_and_correct_aliasing(func, args, kwargs or {}, made)


def _is_of_the_processor(one: Any) -> bool:
    return isinstance(one, Tensor) and not isinstance(one, Second) and one.ndim > 0


class _own_draws:
    """What an operation draws comes from the device's own generator."""

    def __init__(self, func: Any) -> None:
        self._draws = torch.Tag.nondeterministic_seeded in func.tags

    def __enter__(self) -> None:
        if self._draws:
            self._before = torch.default_generator.get_state()
            torch.default_generator.set_state(Module._own.get_state())

    def __exit__(self, *raised: object) -> None:
        if self._draws:
            Module._own.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(self._before)


def _empty_strided(
    size: Any,
    stride: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Second:
    return Second(torch.empty_strided(size, stride, dtype=dtype))


def _empty(
    size: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Second:
    return Second(torch.empty(size, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    assert isinstance(target, Second)
    target.numbers.copy_(source)
    return target


_LIBRARY = torch.library.Library("aten", "IMPL")
_LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
_LIBRARY.impl("empty.memory_format", _empty, "PrivateUse1")
_LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")


@pytest.fixture
def second_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second device is this machine's GPU: what ``device=cuda`` means."""
    monkeypatch.setattr(compute, "GPU", NAME)
    monkeypatch.setattr(compute, "DEVICES", (*compute.DEVICES, NAME))
