"""Pretrained folders made up for tests: tiny networks with random weights, and their tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [f"the cat number {i} sat on a mat, where are you now?" for i in range(40)]
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>")  # padding is token 1, and positions begin after it
SIZES = {"hidden_size": 16, "intermediate_size": 32}


def tokenizer_of(kind: str, texts: Sequence[str] = TEXTS) -> str:
    """The JSON of a tokenizer of some kind that frames a text, as a pretrained one comes."""
    names = list(ROBERTA if kind in ("BPE", "Unigram") else BERT)
    unknown = next(name for name in names if "unk" in name.lower())
    made, trainer, split = {
        "WordPiece": lambda: (
            Tokenizer(models.WordPiece(unk_token=unknown)),
            trainers.WordPieceTrainer(vocab_size=400, special_tokens=names),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "WordLevel": lambda: (
            Tokenizer(models.WordLevel(unk_token=unknown)),
            trainers.WordLevelTrainer(vocab_size=400, special_tokens=names),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "BPE": lambda: (
            Tokenizer(models.BPE()),
            trainers.BpeTrainer(vocab_size=400, special_tokens=names),
            pre_tokenizers.ByteLevel(),
        ),
        "Unigram": lambda: (
            Tokenizer(models.Unigram()),
            trainers.UnigramTrainer(vocab_size=200, special_tokens=names, unk_token=unknown),
            pre_tokenizers.Metaspace(),
        ),
    }[kind]()
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), split
    made.train_from_iterator(texts, trainer)
    first, last = (names[0], names[2]) if names[0] == "<s>" else (names[2], names[3])
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, made.token_to_id(token)) for token in (first, last)],
    )
    text: str = made.to_str()
    return text


def pretrained_folder(
    folder: Path,
    model_type: str = "bert",
    labels: Sequence[str] = (),
    texts: Sequence[str] = TEXTS,
) -> Path:
    """A folder as ``save_pretrained`` writes it: an encoder or, with ``labels``, a classifier."""
    transformers = pytest.importorskip("transformers", reason="the extra transformers is missing")
    text = tokenizer_of("BPE" if model_type == "roberta" else "WordPiece", texts)
    opened = Tokenizer.from_str(text)
    named = {"id2label": dict(enumerate(labels))} if labels else {}
    sizes = {"dim": 16, "hidden_dim": 32} if model_type == "distilbert" else SIZES
    config = transformers.AutoConfig.for_model(
        model_type,
        vocab_size=opened.get_vocab_size() + 3,  # as many have, for a round number
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        pad_token_id=opened.token_to_id("<pad>" if model_type == "roberta" else "[PAD]"),
        **sizes,
        **named,
    )
    kind = transformers.AutoModelForSequenceClassification if labels else transformers.AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        made = kind.from_config(config)
        for value in made.parameters():  # at its own random weights a network answers nearly alike
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.3)
    made.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return folder


def change(path: Path, **values: object) -> None:
    """Give a JSON file other values."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
