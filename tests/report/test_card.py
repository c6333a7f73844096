"""The model card tells what the files take, whatever kind of data that is."""

from fedlite.report.card import ManifestEntry, model_card
from tests.report.runs import Report
from tests.tasks import shaped, texts

ENTRY: ManifestEntry = {
    "file": "student.onnx",
    "name": "quantized_student.onnx",
    "model": "quantized_student",
    "format": "onnx",
    "precision": "int8",
    "bytes": 24_100,
    "runtime": "onnxruntime",
    "batch": "any",
    "input": {"name": "input", "type": "float32", "shape": [6]},
    "output": {"name": "logits", "type": "float32", "shape": [3]},
}


def test_texts_are_tokens_and_numbers_are_normalised(report: Report) -> None:
    made = {"privacy_statement": "", "metrics_table": ""}
    card = model_card(texts(length=6), report, [ENTRY], **made)  # type: ignore[arg-type]
    use = " ".join(card.partition("## Use")[2].split())
    assert "(batch, 6) of int64: the numbers of a text's tokens by `tokenizer.json`" in use
    assert "cut at 6 and filled up with 0" in use
    assert "one text a line" in use
    assert "mean" not in use
    card = model_card(shaped((1, 8, 8)), report, [ENTRY], **made)  # type: ignore[arg-type]
    assert "(batch, 1, 8, 8), normalised" in card
    assert "(raw / scale - mean) / std" in card
