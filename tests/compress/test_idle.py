"""Options of compression that change nothing are said to."""

from dataclasses import replace

import pytest

from fedlite.compress.idle import without_effect
from fedlite.compress.options import CompressOptions, CompressSearchOptions

WHOLE = CompressOptions(ratio=0.0, quantization="none")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CompressOptions(norms="fold"), "compress.norms=fold: no norm of this student"),
        (
            CompressOptions(norm_steps=5),
            "compress.norm_steps=5: has no effect, compress.norms=keep",
        ),
        (replace(WHOLE, recovery_steps=5), "compress.recovery_steps=5: has no effect, nothing is"),
        (replace(WHOLE, criterion="l1"), "compress.criterion=l1: has no effect, no channel is cut"),
        (replace(WHOLE, schedule="iterative"), "compress.schedule=iterative: has no effect"),
        (CompressOptions(iterations=5), "compress.iterations=5: has no effect"),
        (CompressOptions(sparsity_criterion="local"), "compress.sparsity_criterion=local: has no"),
        (replace(WHOLE, symmetric=True), "compress.symmetric=True: has no effect, activations"),
        (CompressOptions(percentile=99.0), "compress.percentile=99.0: has no effect"),
        (CompressOptions(qat_steps=5), "compress.qat_steps=5: has no effect"),
    ],
)
def test_an_option_that_changes_nothing_is_named(options: CompressOptions, said: str) -> None:
    (line,) = without_effect(options, [])
    assert line.startswith(said)


@pytest.mark.parametrize(
    "options",
    [
        CompressOptions(),
        WHOLE,
        CompressOptions(recovery_steps=5, criterion="l1", schedule="iterative", iterations=5),
        replace(WHOLE, layer_ratios={"a": 0.5}, recovery_steps=5, criterion="l1"),
        replace(WHOLE, sparsity=0.5, sparsity_criterion="local", recovery_steps=5),
        CompressOptions(quantization="qat", qat_steps=5, symmetric=True, calibration_size=9),
        CompressOptions(calibration="percentile", percentile=99.0),
        CompressOptions(norm_steps=5, search=CompressSearchOptions(enabled=True)),
    ],
)
def test_options_that_count_are_not(options: CompressOptions) -> None:
    assert list(without_effect(options, [])) == []


def test_norms_that_were_folded_are_not_said_to_stay() -> None:
    assert list(without_effect(CompressOptions(norms="fold", norm_steps=5), ["norm"])) == []
