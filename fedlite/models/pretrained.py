"""A pretrained language model as a teacher: a transformer from a folder, under a linear head."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.serve.tokens import PAD

POOLINGS = ("mean", "first", "last")


class PretrainedText(nn.Module):
    """A network of the ``transformers`` library on the tokens of a task, and a linear head.

    Its table of vectors holds the task's tokens, in their order, and after them those that frame a
    text (BERT's ``[CLS]`` and ``[SEP]``): of a vocabulary of 30,000 what public texts use. Built
    from ``config`` alone, with random weights; :func:`fedlite.distill.pretrained.load_pretrained`
    fills in those of a folder. Inputs (n, length) numbers of tokens,
    :data:`~fedlite.serve.tokens.PAD` where a text has ended; answers logits (n, ``num_classes``).
    What is longer than the network can see is cut at the end.

    Args:
        input_shape: (length,).
        num_classes: number of logits.
        vocabulary: number of tokens.
        config: the content of the folder's ``config.json``.
        frame: how many tokens stand before a text, and after it.
        pooling: what the head sees of the last layer: ``mean`` over a text's tokens and its frame,
            or its ``first`` or ``last`` token. A classifier pools by itself.
        classifier: whether the folder's network is a sequence classifier, all of whose layers but
            the last are kept.

    Raises:
        ValueError: another input shape, an unknown pooling, or a configuration of which no such
            network can be built.
        UsageError: the library is not installed.
    """

    fixed_front_end = True  # see fedlite.models.build.FixedFrontEnd

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocabulary: int,
        config: Mapping[str, Any],
        frame: Sequence[int] = (1, 1),
        pooling: str = "mean",
        classifier: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise ValueError(f"texts are inputs (length,), not {tuple(input_shape)}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling}: must be one of {', '.join(POOLINGS)}")
        self.pooling, self.classifier = pooling, classifier
        self.vocabulary, (self.before, self.after) = vocabulary, frame
        self.pad = pad_place(config, vocabulary)
        self.network = build_network(
            {**config, "vocab_size": vocabulary + sum(frame), "pad_token_id": self.pad}, classifier
        )
        built: Any = self.network.config
        positions = getattr(built, "max_position_embeddings", None)
        # Of BERT's kin those of RoBERTa count positions from the one after their padding.
        room = (positions or 1 << 30) - self.pad - 1 - sum(frame)
        self.room = max(1, room)
        width = int(built.hidden_size)
        if classifier:
            width = output_layer(self.network).in_features
            replace_output(self.network, nn.Identity())
        self.head = nn.Linear(width, num_classes)

    def features(self, tokens: Tensor) -> Tensor:
        """What the head sees: (n, width), of an encoder with mean 0 and deviation 1."""
        numbers, real = self._framed(tokens[:, : self.room])
        seen = self.network(input_ids=numbers, attention_mask=real.to(torch.int64))
        if self.classifier:
            return cast(Tensor, seen.logits)
        hidden, weight = seen.last_hidden_state, real.to(torch.float32).unsqueeze(2)
        if self.pooling == "first":
            weight = torch.cat([weight[:, :1], torch.zeros_like(weight[:, 1:])], dim=1)
        elif self.pooling == "last":
            weight = weight - torch.cat([weight[:, 1:], torch.zeros_like(weight[:, :1])], dim=1)
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return F.layer_norm(pooled, pooled.shape[1:])

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        return cast(Tensor, self.head(self.features(tokens)))

    def _framed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the network's own (n, before + length + after), and which of them are real."""
        length = (tokens != PAD).sum(dim=1, keepdim=True)
        filling = torch.full_like(tokens[:, :1], PAD)
        before = [filling + self.vocabulary + place for place in range(self.before)]
        numbers = torch.cat([*before, tokens, *[filling] * self.after], dim=1)
        places = torch.arange(numbers.shape[1], device=tokens.device).unsqueeze(0)
        for place in range(self.after):
            last = self.vocabulary + self.before + place
            here = places == length + self.before + place
            numbers = torch.where(here, torch.full_like(numbers, last), numbers)
        real = places < length + self.before + self.after
        if self.pad != PAD:
            swapped = torch.where(numbers == self.pad, torch.full_like(numbers, PAD), numbers)
            numbers = torch.where(numbers == PAD, torch.full_like(numbers, self.pad), swapped)
        return numbers, real


def pad_place(config: Mapping[str, Any], vocabulary: int) -> int:
    """The row of the network's table that stands for padding: where its own has it, for some count
    positions by it, and 0 where that is beyond the table."""
    own = config.get("pad_token_id")
    return own if isinstance(own, int) and 0 <= own < vocabulary else PAD


def build_network(config: Mapping[str, Any], classifier: bool) -> nn.Module:
    """A network of ``transformers`` with random weights.

    Raises:
        ValueError: the library knows no such network.
        UsageError: the library is not installed.
    """
    transformers = library()
    made = transformers.AutoConfig.for_model(**config)
    kind = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModel
    return cast(nn.Module, kind.from_config(made, attn_implementation="eager").float())


def library() -> Any:
    """The ``transformers`` library, which loads slowly; it is kept off the network.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise UsageError(
            "teacher=transformer: transformers is not installed; pip install"
            " 'fedlite[transformers]'"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def output_layer(network: nn.Module) -> nn.Linear:
    """The last layer of a sequence classifier."""
    return cast(nn.Linear, network.get_submodule(_output_name(network)))


def replace_output(network: nn.Module, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the last layer of a sequence classifier."""
    folder, _, name = _output_name(network).rpartition(".")
    setattr(network.get_submodule(folder), name, layer)


def _output_name(network: nn.Module) -> str:
    labels = int(cast(Any, network).config.num_labels)
    found: list[str] = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == labels
    ]
    if not found:
        raise ValueError(f"{type(network).__name__}: ends in no linear layer")
    return found[-1]
