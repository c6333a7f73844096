"""Answering for another Python: the logits of an exported file for inputs in an ``.npy`` file.

python -m fedlite.serve.runtime_worker MODEL INPUTS.npy LOGITS.npy
"""

import sys
from pathlib import Path

import numpy as np

from fedlite.base.elsewhere import MISSING
from fedlite.base.errors import FedliteError
from fedlite.serve.runtime import logits_of, open_runtime, runs_here


def main() -> None:
    """Write the logits (n, classes); the exit code says what failed (see ``elsewhere``)."""
    model, inputs, logits = map(Path, sys.argv[1:])
    try:
        runtime = open_runtime(model)
    except FedliteError as error:
        print(error, file=sys.stderr)
        sys.exit(1 if runs_here(model) else MISSING)
    np.save(logits, logits_of(runtime, np.load(inputs)))


if __name__ == "__main__":
    main()
