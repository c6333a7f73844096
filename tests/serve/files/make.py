"""Makes the files beside it: a tiny network as .tflite, with inputs and torch's logits as .npz.

python -m tests.serve.files.make PYTHON    (of the environment that `make test-formats` builds)
"""

import sys
from pathlib import Path

import numpy as np
import torch

from fedlite.compress.exporting import export_file
from fedlite.compress.options import CompressOptions
from fedlite.data.types import PublicData
from fedlite.models.cnn import CNN
from tests.tasks import shaped

SHAPE = (1, 8, 8)


def main() -> None:
    """Write ``tiny_fp32.tflite``, ``tiny_int8.tflite`` and ``tiny.npz``."""
    torch.manual_seed(0)
    task = shaped(SHAPE, 5, "tiny")
    model = CNN(SHAPE, task.num_classes, channels=(4, 8), hidden=8).eval()
    inputs = torch.randn(64, *SHAPE)
    with torch.no_grad():
        model.classifier[-1].weight *= 8  # untrained logits are small
        logits = model(inputs)
    public = PublicData(inputs, logits.argmax(dim=1))
    config = CompressOptions(quantization="static", converters={"litert": sys.argv[1]})
    folder = Path(__file__).parent
    for name, quantized in (("fp32", False), ("int8", True)):
        path = folder / f"tiny_{name}.tflite"
        export_file("litert", model, task, path, config, public, quantized=quantized)
    np.savez_compressed(folder / "tiny.npz", inputs=inputs[:16].numpy(), logits=logits[:16].numpy())


if __name__ == "__main__":
    main()
