"""Core ML: converted here, checked structurally; it runs on macOS only."""

import shutil
import sys
from dataclasses import replace

import pytest

from fedlite.base.errors import FedliteError
from fedlite.compress.compare import check_structure, runs_in
from fedlite.serve.runtime import open_runtime

from .conftest import python_of


@pytest.mark.parametrize(
    ("name", "quantization", "options", "share"),
    [
        ("cnn", "none", {}, 1.0),
        ("mobilenet", "none", {}, 1.0),
        ("transformer", "none", {}, 1.0),
        ("shuffle", "none", {}, 1.0),
        ("lstm", "none", {}, 1.0),
        ("cnn", "fp16", {}, 0.7),
        ("cnn", "weight_only", {}, 0.5),
        ("cnn", "weight_only", {"bits": 4}, 0.35),
    ],
)
def test_packages_have_the_right_structure_and_size(
    make, students, name, quantization, options, share
):
    plain = make("coreml", name, "none", run=False)
    found = make("coreml", name, quantization, run=False, **options)
    check_structure(found.path, students[name].task, python_of("coreml"))
    assert found.bytes <= share * plain.bytes
    if quantization != "none":
        assert "conv" in found.float_ops


def test_a_package_of_another_task_or_damaged_is_refused(make, digits, tmp_path):
    package, python = make("coreml", "cnn", "none", run=False).path, python_of("coreml")
    with pytest.raises(FedliteError, match="outputs"):
        check_structure(package, replace(digits.task, class_names=("a", "b")), python)
    with pytest.raises(FedliteError, match="inputs"):
        check_structure(package, replace(digits.task, input_shape=(1, 9, 9)), python)
    damaged = tmp_path / "damaged.mlpackage"
    shutil.copytree(package, damaged)
    (damaged / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"nothing")
    with pytest.raises(FedliteError, match="damaged"):
        check_structure(damaged, digits.task, python)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_it_says_that_it_cannot_run_here(make):
    package = make("coreml", "cnn", "none", run=False).path
    assert not runs_in(package, python_of("coreml"))
    with pytest.raises(FedliteError, match="macOS only"):
        open_runtime(package)


def test_an_older_package_is_replaced_whole(make, digits, students, tmp_path):
    from fedlite.compress.exporting import export_file
    from fedlite.compress.options import CompressOptions

    path = tmp_path / "student.mlpackage"
    shutil.copytree(make("coreml", "cnn", "none", run=False).path, path)
    (path / "left_over").touch()
    config = CompressOptions(converters={"coreml": python_of("coreml")})
    export_file("coreml", students["cnn"].model, digits.task, path, config, None, quantized=False)
    assert not (path / "left_over").exists()
    assert list(tmp_path.iterdir()) == [path]
