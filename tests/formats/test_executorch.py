"""ExecuTorch: converted and run in its own environment."""

import pytest

from fedlite.base.errors import FedliteError
from fedlite.compress.compare import check_structure, compare, runs_in

from .conftest import python_of


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_fp32_is_the_model(make, name):
    found = make("executorch", name, "none")
    assert found.comparison.snr_db > 100
    assert found.comparison.agreement == 1


@pytest.mark.parametrize(
    ("name", "quantization", "options", "least_db", "share"),
    [
        ("cnn", "static", {}, 30, 0.5),
        ("mobilenet", "static", {}, 25, 0.7),
        ("cnn", "static", {"symmetric": True, "calibration": "percentile"}, 25, 0.5),
        ("cnn", "dynamic", {}, 40, 0.8),
    ],
)
def test_quantized_files_are_smaller_and_close(make, name, quantization, options, least_db, share):
    plain = make("executorch", name, "none")
    found = make("executorch", name, quantization, **options)
    assert found.bytes < share * plain.bytes
    assert found.comparison.snr_db > least_db
    assert found.comparison.accuracy > found.comparison.reference_accuracy - 0.02


@pytest.mark.parametrize(
    ("name", "stays_in_float"),
    [("shuffle", []), ("transformer", ["softmax", "layer_norm"]), ("scattering", ["group_norm"])],
)
def test_static_files_of_every_kind_of_student_are_close(make, name, stays_in_float):
    found = make("executorch", name, "static")
    assert found.comparison.snr_db > 25
    assert set(stays_in_float) <= set(found.float_ops)
    assert not {"conv1d", "conv2d", "linear"} & set(found.float_ops)


def test_operators_that_stay_in_float_are_listed(make):
    assert make("executorch", "cnn", "static").float_ops == ["max_pool2d", "tanh"]
    assert "conv2d" in make("executorch", "cnn", "dynamic").float_ops


def test_a_damaged_file_is_one_line(make, students, digits, tmp_path):
    python, damaged = python_of("executorch"), tmp_path / "damaged.pte"
    damaged.write_bytes(make("executorch", "cnn", "none").path.read_bytes()[:500])
    with pytest.raises(FedliteError, match="damaged") as caught:
        compare(damaged, students["cnn"].model, digits.public, python)
    assert "\n" not in str(caught.value)


def test_an_environment_without_the_runtime_is_one_line(make, students, digits):
    path = make("executorch", "cnn", "none").path
    assert runs_in(path, python_of("executorch"))
    assert not runs_in(path)
    with pytest.raises(FedliteError, match=r"pip install executorch"):
        compare(path, students["cnn"].model, digits.public)
    with pytest.raises(FedliteError, match="executorch"):
        check_structure(path, digits.task)
