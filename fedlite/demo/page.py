"""Writing the static page: template, model, facts, samples and runtime in one folder."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.bundle import write_folder
from fedlite.demo.facts import PageFacts
from fedlite.demo.ort import FILES
from fedlite.demo.typical import Typical
from fedlite.serve.calibration import read_calibration
from fedlite.serve.predict import DEFAULT
from fedlite.serve.preprocessing import read_json, read_preprocessing
from fedlite.serve.tokens import TOKENIZER

STATIC = Path(__file__).parent / "static"
FACTS = "demo.json"
_CARD = "card.html"


def can_tokenize(tokenizer: Any) -> bool:
    """Whether ``tokenizer.js`` makes the tokens of this ``tokenizer.json``: words or characters as
    :func:`fedlite.data.tokens.learn_tokenizer` learns them, and not those of other libraries."""
    forms = (tokenizer["normalizer"] or {}).get("normalizers", [])
    split = tokenizer["pre_tokenizer"] or {}
    return (
        tokenizer["model"]["type"] == "WordLevel"
        and [form["type"] for form in forms] in (["NFKC"], ["NFKC", "Lowercase"])
        and (split.get("type") == "Whitespace" or split.get("pattern") == {"Regex": r"[\s\S]"})
    )


@dataclass(frozen=True)
class Sample:
    """One public example: its class and its raw values, flattened, channels first."""

    label: str
    values: list[float]


def write_demo(
    output: Path,
    bundle: Path,
    samples: Sequence[Sample],
    facts: PageFacts,
    ort: Path,
    *,
    typical: Typical = None,
) -> None:
    """Write the page to ``output``, whole or not at all; it replaces an older one.

    The folder needs nothing from elsewhere: any web server of static files can offer it.

    Args:
        output: made, or replaced if it is an older page.
        bundle: the deployable folder whose ``student.onnx`` the page runs.
        samples: public examples to choose from; never private or test data.
        facts: what the page says of the model, see :func:`fedlite.demo.facts.page_facts`.
        ort: the folder with the files of the runtime, see :mod:`fedlite.demo.ort`.
        typical: what is usual among public examples, see :mod:`fedlite.demo.typical`; None for
            no hints.

    Raises:
        UsageError: no ONNX model in ``bundle``, or ``output`` holds something else.
        FedliteError: ``bundle`` is damaged, or the page cannot be written.
    """
    if not (bundle / DEFAULT).is_file():
        raise UsageError(
            f"{bundle}: holds no {DEFAULT}, and the page runs no other format;"
            " add onnx to compress.formats"
        )
    try:
        content = {
            **facts,
            "preprocessing": read_json(bundle / "preprocessing.json"),
            "kind": read_preprocessing(bundle / "preprocessing.json").kind,
            "temperature": read_calibration(bundle / DEFAULT).temperature,
            "typical": typical,
            "labels": read_json(bundle / "labels.json"),
            "samples": [asdict(sample) for sample in samples],
        }
        if (bundle / TOKENIZER).is_file():
            content["tokenizer"] = read_json(bundle / TOKENIZER)
        card = _html_of((bundle / "MODEL_CARD.md").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FedliteError(f"{bundle}: damaged ({error})") from error

    def fill(folder: Path) -> None:
        shutil.copytree(STATIC, folder, dirs_exist_ok=True)
        template = (STATIC / _CARD).read_text("utf-8")
        (folder / _CARD).write_text(template.replace("{card}", card), "utf-8")
        (folder / FACTS).write_text(json.dumps(content, separators=(",", ":")), "utf-8")
        shutil.copyfile(bundle / DEFAULT, folder / DEFAULT)
        (folder / "ort").mkdir(exist_ok=True)
        for name in FILES:
            shutil.copyfile(ort / name, folder / "ort" / name)

    write_folder(output, FACTS, "demo page", fill)


def _html_of(markdown: str) -> str:
    """Markdown with tables as HTML; HTML within it becomes text."""
    rendered: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return rendered
