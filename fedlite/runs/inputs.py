"""Files that a run is told to read: whether they are there, before what reads them is imported."""

from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.base.options import value_at
from fedlite.base.pretrained import MINILM
from fedlite.runs.config import Config

FILES = ("teacher.checkpoint", "privacy.policy", "compress.signing_key")
ANYWHERE = "huggingface"  # a source whose root may be a name on a hub


def check_inputs(config: Config) -> None:
    """Refuse a configuration that names a file, or data, that is not there.

    Raises:
        UsageError: names the option and the path.
    """
    for key in FILES:
        path = value_at(config, key)
        if path and path != MINILM and not Path(path).exists():
            raise UsageError(f"{key}={path}: no such file{did_you_mean_file(Path(path))}")
    dataset = config.dataset
    own = "." in dataset.source  # a source of the user's may read from anywhere
    if dataset.root and dataset.source != ANYWHERE and not own and not Path(dataset.root).exists():
        from fedlite.data.raw import root_path

        root_path(dataset)
    if dataset.text.tokenizer is not None:
        from fedlite.data.tokens import LEARNT, given_tokenizer

        if dataset.text.tokenizer not in LEARNT:
            given_tokenizer(dataset.text.tokenizer)
