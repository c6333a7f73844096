"""Answering for another Python: the logits of an exported file for inputs in an ``.npy`` file.

python -m fedlite.compress.runtime_worker MODEL INPUTS.npy LOGITS.npy
"""

import sys
from pathlib import Path

import numpy as np

from fedlite.compress.elsewhere import MISSING
from fedlite.compress.runtime import can_run, logits_of, open_runtime
from fedlite.errors import FedliteError


def main() -> None:
    """Write the logits (n, classes); the exit code says what failed (see ``elsewhere``)."""
    model, inputs, logits = map(Path, sys.argv[1:])
    try:
        runtime = open_runtime(model)
    except FedliteError as error:
        print(error, file=sys.stderr)
        sys.exit(1 if can_run(model) else MISSING)
    np.save(logits, logits_of(runtime, np.load(inputs)))


if __name__ == "__main__":
    main()
