"""A search space whose answers are formulas: what a search makes of it can be checked."""

from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.search.harness import OBJECTIVES, Space
from fedlite.search.trials import Limits, Options, Outcome

SIZE = {"none": 1.0, "fp16": 0.5, "static": 0.3}
POINTS = 12 * 3 * 2 + 3  # the criterion makes no difference where nothing is pruned


def simplify(genes: Options) -> Options:
    """Where nothing is pruned, no criterion."""
    return {name: value for name, value in genes.items() if name != "criterion" or genes["ratio"]}


SPACE = Space(
    choices={
        "ratio": [step / 20 for step in range(13)],
        "quantization": list(SIZE),
        "criterion": ["l1", "l2"],
    },
    simplify=simplify,
    objectives=OBJECTIVES,
    first={"ratio": 0.3, "quantization": "static", "criterion": "l2"},
)
LIMITS = Limits(bytes=25_000, reference_accuracy=0.9, max_accuracy_drop=0.05)


def evaluate(options: Options, folder: Path) -> Outcome:
    """Smaller is less accurate; float16 of a much pruned student cannot be made."""
    ratio, quantization = float(options["ratio"]), str(options["quantization"])
    if quantization == "fp16" and ratio > 0.5:
        raise FedliteError("float16 is not to be had")
    (folder / "file").write_text("made")
    lost = ratio**2 + (0.01 if quantization == "static" else 0.0)
    return Outcome(
        latency_ms=0.2 * (1 - ratio),
        bytes=round(100_000 * SIZE[quantization] * (1 - ratio)),
        accuracy=0.9 - lost - (0.001 if options.get("criterion") == "l1" else 0.0),
        file=f"{folder.name}/file",
    )
