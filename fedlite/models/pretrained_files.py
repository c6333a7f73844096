"""What the small files of a pretrained folder tell of its network; nothing here loads torch."""

import json
from pathlib import Path
from typing import Any

from fedlite.base.errors import UsageError
from fedlite.base.pretrained import CONFIG_FILE, WEIGHTS, pretrained_folder, read_tokenizer

MODULE = "fedlite.models.pretrained.PretrainedText"
CLASSIFIER = "ForSequenceClassification"
# Of a configuration: what tells of files, texts or labels, and not of the network.
_NOT_OF_THE_NETWORK = (
    "_name_or_path", "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype",
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "vocab_size",
    "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id",
    "decoder_start_token_id", "forced_eos_token_id", "use_cache",
)  # fmt: skip


def network_of(name: str) -> dict[str, Any]:
    """The arguments of :class:`~fedlite.models.pretrained.PretrainedText` that a folder decides.

    Raises:
        UsageError: what is missing in the folder, or a network that would run code of its own.
    """
    folder = pretrained_folder(name)
    config = read_config(folder)
    if not [*folder.glob("*.safetensors")]:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "its weights are pickled, which is not read" if pickled else "it holds no weights"
        raise UsageError(f"{folder}: {why}; model.save_pretrained(FOLDER) writes {WEIGHTS}")
    architectures = config.get("architectures") or [""]
    found: dict[str, Any] = {
        "config": {key: config[key] for key in sorted(config) if key not in _NOT_OF_THE_NETWORK},
        "frame": [len(part) for part in frame_of(read_tokenizer(str(folder)))],
    }
    if str(architectures[0]).endswith(CLASSIFIER):
        found["classifier"] = True
    elif pooling := _pooling(folder):
        found["pooling"] = pooling
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a pretrained folder.

    Raises:
        UsageError: missing or damaged, or of a network with code of its own.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; expected a folder that save_pretrained wrote"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged, not JSON") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UsageError(f"{path}: names no model_type; expected one that save_pretrained wrote")
    if "auto_map" in config:
        raise UsageError(
            f"{path}: its network comes with code of its own (auto_map), which is not run; take one"
            " that the transformers library has"
        )
    return config


def frame_of(tokenizer: str) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before a text, and after it; in its own numbers.

    Raises:
        UsageError: it is no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        opened = Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises bare exceptions
        raise UsageError("tokenizer.json: no tokenizer of the tokenizers library") from error
    opened.no_truncation()
    opened.no_padding()
    framed = opened.encode("a", add_special_tokens=True)
    special = framed.special_tokens_mask
    first = special.index(0) if 0 in special else len(special)
    last = len(special) - special[::-1].index(0) if 0 in special else first
    return framed.ids[:first], framed.ids[last:]


def _pooling(folder: Path) -> str | None:
    """What a folder of ``sentence-transformers`` says of it; None where it says nothing known."""
    path = folder / "1_Pooling" / CONFIG_FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}
    found = [name for name, key in names.items() if said.get(f"pooling_mode_{key}")]
    return found[0] if len(found) == 1 else None
