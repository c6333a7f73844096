"""Measuring a torch model in eager mode in a fresh process: what an exported file is up against.

python -m fedlite.compress.measure_eager_worker MODEL --input-shape 1 28 28 --out FACTS.json
"""

import json
from pathlib import Path

import torch

from fedlite.serve.kind import Array, as_taken
from fedlite.serve.measure_worker import cost_facts, parser


class Eager:
    """A pickled model as a :class:`fedlite.serve.kind.Runtime`."""

    name = f"torch {torch.__version__.split('+')[0]} eager cpu"
    batch_size = None
    value_type = "float32"

    def __init__(self, path: Path, input_shape: tuple[int, ...], input_type: str) -> None:
        self.input_shape, self.input_type = input_shape, input_type
        # A pickle is fit here alone: the process that wrote it a moment ago asks for its figures.
        self._model = torch.load(path, weights_only=False)

    def run(self, batch: Array) -> Array:
        """Logits (n, classes) of ``batch`` (n, *input_shape)."""
        with torch.inference_mode():
            logits: Array = self._model(torch.from_numpy(as_taken(batch, self.input_type))).numpy()
        return logits


def main() -> None:
    """Measure the model."""
    own = parser()
    own.add_argument("--input-shape", type=int, nargs="+", required=True)
    own.add_argument("--input-type", default="float32")
    options = own.parse_args()
    torch.set_num_threads(options.threads)
    shape = tuple(options.input_shape)
    facts = cost_facts(lambda: Eager(options.model, shape, options.input_type), options)
    options.out.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
