"""What is usual among public examples: the same figures in Python and on the page."""

import numpy as np
import pytest
import torch

from fedlite.data.types import ClientData, Normalise, PublicData, Task
from fedlite.demo.typical import traits, typical_of
from tests.compress.conftest import Digits

TABLE = Task("table", (2,), ("no", "yes"), Normalise(1.0, (4.0, 0.5), (2.0, 0.1)), "", "")


def test_nearly_all_public_pictures_are_usual(digits: Digits) -> None:
    typical = typical_of([digits.public], digits.task)
    assert isinstance(typical, dict)
    shares = digits.task.preprocessing.undo(digits.public.inputs).numpy() / 16
    for name, values in traits(shares).items():
        low, high = typical[name]
        assert 0.99 < np.mean((values >= low) & (values <= high)) < 1


def test_traits_say_where_the_ink_is() -> None:
    pictures = np.zeros((3, 1, 10, 20))
    pictures[0, 0, 2, 4] = 1.0
    pictures[1, 0, 1:9, 10] = 0.5
    found = traits(pictures)
    assert found["centre_x"][:2] == pytest.approx([4.5 / 20, 10.5 / 20])
    assert found["centre_y"][:2] == pytest.approx([2.5 / 10, 0.5])
    assert found["spread_x"][:2] == pytest.approx([0, 0])
    assert found["spread_y"][1] == pytest.approx(np.std(np.arange(8)) / 10)
    assert found["brightness"] == pytest.approx([1 / 200, 4 / 200, 0])
    assert np.isnan(found["centre_x"][2])


def test_sliders_go_as_far_as_public_examples_do() -> None:
    raw = torch.tensor([[1.0, 0.25], [7.0, 0.5], [3.0, 0.75]])
    public = PublicData(TABLE.prepare(raw), torch.zeros(3, dtype=torch.int64))
    assert typical_of([public], TABLE) == [
        {"low": 1, "high": 7, "whole": True},
        {"low": 0.25, "high": 0.75, "whole": False},
    ]


def test_private_or_test_data_are_not_summed_up(digits: Digits) -> None:
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    for data in (private, digits.test):
        with pytest.raises(TypeError):
            typical_of([digits.public, data], digits.task)


def test_the_page_finds_the_same_traits(browser, url, digits: Digits) -> None:
    page = browser.new_page()
    page.goto(f"{url}/digits/")
    raw = digits.public.inputs[:20] * digits.task.preprocessing.std[0]
    raw = 16 * (raw + digits.task.preprocessing.mean[0])
    found = page.evaluate(
        """async ([script, all]) => {
            const { traits } = await import(script);
            return all.map((raw) => traits(raw, { input_shape: [1, 8, 8], scale: 16 }));
        }""",
        [f"{url}/digits/typical.js", raw.flatten(1).tolist()],
    )
    for name, values in traits(raw.numpy().astype(np.float64) / 16).items():
        assert [one[name] for one in found] == pytest.approx(values.tolist(), abs=1e-5)
    page.close()
