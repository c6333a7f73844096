"""Options of compression that were given and change nothing, each said in a line."""

from collections.abc import Callable, Collection, Iterator

from fedlite.compress.options import CompressOptions

_DEFAULTS = CompressOptions()

_Rule = tuple[tuple[str, ...], Callable[[CompressOptions], bool], str]


def _prunes(options: CompressOptions) -> bool:
    ratios = (options.ratio, options.sparsity, *options.layer_ratios.values())
    return any(ratio > 0 for ratio in ratios)


def _cuts(options: CompressOptions) -> bool:
    return options.ratio > 0 or any(ratio > 0 for ratio in options.layer_ratios.values())


# Options, when they count, and why they do not otherwise.
_RULES: tuple[_Rule, ...] = (
    (("norm_steps",), lambda one: one.norms == "fold", "compress.norms=keep exchanges no norm"),
    (("criterion", "round_to"), _cuts, "no channel is cut with compress.ratio=0"),
    (("schedule",), _prunes, "nothing is pruned"),
    (
        ("iterations",),
        lambda one: _prunes(one) and one.schedule == "iterative",
        "nothing is pruned by compress.schedule=iterative",
    ),
    (
        ("sparsity_criterion",),
        lambda one: one.sparsity > 0,
        "no weight is set to zero with compress.sparsity=0",
    ),
    (("recovery_steps", "recovery_from"), _prunes, "nothing is pruned that could be recovered"),
    (
        ("calibration", "calibration_size", "symmetric"),
        lambda one: one.quantization in ("static", "qat"),
        "activations are quantized by compress.quantization=static and qat alone",
    ),
    (
        ("percentile",),
        lambda one: one.calibration == "percentile",
        "it is for compress.calibration=percentile",
    ),
    (
        ("qat_steps", "qat_learning_rate"),
        lambda one: one.quantization == "qat",
        "it is for compress.quantization=qat",
    ),
)


def without_effect(options: CompressOptions, folded_norms: Collection[str]) -> Iterator[str]:
    """A line for every option that differs from its default and changed nothing.

    A search chooses for itself, and gets none.

    Args:
        options: of the compression.
        folded_norms: the norms that were exchanged.
    """
    if options.search.enabled:
        return
    if options.norms == "fold" and not folded_norms:
        yield (
            "compress.norms=fold: no norm of this student follows a convolution so that it could be"
            " folded; nothing was exchanged"
        )
    for names, counts, why in _RULES:
        for name in names:
            value = getattr(options, name)
            if value != getattr(_DEFAULTS, name) and not counts(options):
                yield f"compress.{name}={value}: has no effect, {why}"
