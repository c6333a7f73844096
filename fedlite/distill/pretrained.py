"""The weights of a pretrained folder, into a network whose tokens and classes are a task's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.base.foreign import FAILURES, log_of, reason_of
from fedlite.base.pretrained import pretrained_folder, read_tokenizer
from fedlite.data.given_tokenizer import unknown_token
from fedlite.data.types import Task, Tokens
from fedlite.models.pretrained import (
    PretrainedText,
    library,
    output_layer,
    replace_output,
)
from fedlite.models.pretrained_files import frame_of
from fedlite.serve.tokens import PAD, UNKNOWN, words_of

UNNAMED = "LABEL_"  # what transformers calls the classes of a network that was given no names


def load_pretrained(model: PretrainedText, name: str, task: Task, *, new_head: bool) -> None:
    """Fill ``model`` with the weights of a folder.

    The rows of its table of vectors are those of the task's tokens. A classifier's head is taken
    where its classes are the task's, in whatever order.

    Args:
        model: as built for ``task`` by what :func:`fedlite.models.pretrained_files.network_of` says
            of the folder.
        name: of the folder (:func:`fedlite.base.pretrained.pretrained_folder`).
        task: of texts.
        new_head: whether the head will be trained, so that there need be none for these classes.

    Raises:
        UsageError: the folder's weights do not fit, its tokens are not the task's, or there is no
            head for the task's classes and none will be trained.
    """
    folder = pretrained_folder(name)
    source = _source(folder, classifier=model.classifier)
    table = source.get_input_embeddings().weight
    (table_name,) = (key for key, value in source.named_parameters() if value is table)
    rows = _rows(model, table.detach(), source.config.pad_token_id, folder, task)
    if model.classifier:
        head = _head_for(source, task, folder)
        replace_output(source, nn.Identity())
        if head is not None:
            model.head.load_state_dict(head)
        elif not new_head:
            raise UsageError(
                f"{folder}: answers {_shown(_labels(source))}, and the data set has"
                f" {_shown(task.class_names)}; teacher.fine_tune=head trains a head for these"
            )
    elif not new_head:
        raise UsageError(
            f"{folder}: an encoder, which answers no classes; teacher.fine_tune=head trains a head"
        )
    model.network.load_state_dict({**source.state_dict(), table_name: rows})


def _source(folder: Path, *, classifier: bool) -> Any:
    """The folder's network as it is.

    Raises:
        UsageError: its files are damaged or do not fit each other.
    """
    transformers = library()
    kind = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModel
    try:
        found, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except FAILURES as error:
        log_of(f"{folder}: cannot be loaded", error)
        raise UsageError(f"{folder}: cannot be loaded: {reason_of(error)}") from error
    if missing := sorted(one for one in told["missing_keys"] if "pooler" not in one):
        raise UsageError(
            f"{folder}: '{missing[0]}' and {len(missing) - 1} more are not among its weights; give"
            " the folder of a whole network"
        )
    return found.float()


def _rows(
    model: PretrainedText, table: Tensor, pad: int | None, folder: Path, task: Task
) -> Tensor:
    """The rows (vocabulary + frame, width) of the folder's table of vectors, in ``model``'s order;
    what has none there gets the mean of all.

    Raises:
        UsageError: the folder's tokenizer has tokens that its table has not, or lacks the task's.
    """
    assert isinstance(task.preprocessing, Tokens)
    text = read_tokenizer(str(folder))
    own = Tokenizer.from_str(text)
    if own.get_vocab_size() > len(table):
        raise UsageError(
            f"{folder}: its tokenizer has {own.get_vocab_size()} tokens, and its network knows"
            f" {len(table)}; they are not of one model"
        )
    words = words_of(task.preprocessing.tokenizer)
    numbers = [own.token_to_id(word) for word in words]
    strange = [
        word
        for place, (word, number) in enumerate(zip(words, numbers, strict=True))
        if number is None and place not in (PAD, UNKNOWN)
    ]
    if strange:
        raise UsageError(
            f"{folder}: does not know {len(strange)} of the {len(words)} tokens of this data set,"
            f" such as {strange[0]!r}; leave out dataset.text.tokenizer, so that its own is taken"
        )
    unknown = unknown_token(text)
    numbers[UNKNOWN] = None if unknown is None else own.token_to_id(unknown)
    numbers[PAD] = pad
    before, after = frame_of(text)
    mean = table.mean(dim=0)
    rows = torch.stack([mean if one is None else table[one] for one in [*numbers, *before, *after]])
    rows[[PAD, model.pad]] = rows[[model.pad, PAD]]
    return rows


def _head_for(source: Any, task: Task, folder: Path) -> dict[str, Tensor] | None:
    """The last layer of a classifier, its rows in the order of the task's classes; None where those
    are not its own."""
    layer, labels = output_layer(source), _labels(source)
    if layer.out_features != task.num_classes:
        return None
    by_name = {label.casefold(): place for place, label in enumerate(labels)}
    wanted = [by_name.get(name.casefold()) for name in task.class_names]
    if all(label.startswith(UNNAMED) for label in labels):
        wanted = list(range(len(labels)))
    if None in wanted:
        return None
    bias = layer.bias[wanted] if layer.bias is not None else torch.zeros(len(wanted))
    return {"weight": layer.weight[wanted].detach(), "bias": bias.detach()}


def _labels(source: Any) -> list[str]:
    named = source.config.id2label
    return [str(named[place]) for place in sorted(named)]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
