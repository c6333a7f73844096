"""fedlite predict: classify files with an exported model.

usage: fedlite predict DIR INPUT [INPUT ...] [output=FILE] [--json] [--invert]
                       [ask=URL]

  DIR (or model=)    a run directory, a deployable folder (its student.onnx), or
                     an exported student (.onnx, .tflite, .pte, .mlpackage) with
                     labels.json and preprocessing.json beside it
  INPUT (or input=)  a picture (png, jpg, ...), an npy, an npz (array `inputs`),
                     a csv, tsv or parquet (an example a row), a txt (a text a
                     line), a wav for a model of recordings, or a folder of
                     such files
  output=FILE        writes the probabilities of all classes: .csv or .json
  --json             prints them as JSON, and nothing else on standard output
  --invert           pictures as their negatives: dark ink on white paper for a
                     model that knows white on black

Prints the likeliest classes of every example. A picture keeps its aspect: the
rest of the model's frame has the colour of the picture's border. Of several
files, one that cannot be read is told and left out, with exit code 1 or 2.

  ask=URL            asks the teacher of `fedlite serve` where the student is
                     unsure: SENDS THOSE INPUTS THERE (docs/cascade.md)
  threshold=P        unsure: below this probability (default: calibration.json)
  token_file=FILE    the server's token; else it is taken from FEDLITE_TOKEN
  ca=FILE            the certificate to trust, in PEM; default: the system's
"""

import csv
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import user_path, write_whole
from fedlite.cli.errors import say
from fedlite.cli.parse import RUN_DIR, Arguments, given_values
from fedlite.runs.literal import key_of

if TYPE_CHECKING:
    from fedlite.serve.cascade import Cascade
    from fedlite.serve.predict import Prediction
    from fedlite.serve.preprocessing import Kind

SHOWN = 5  # classes printed for each predicted example
ASKING = ("threshold", "token_file", "ca")  # only with ask=
OPTIONS = ("model", "input", "output", "json", "invert", "ask", *ASKING)
TABLES = (".csv", ".json")


def run(arguments: Arguments) -> int:
    """Print or write what the model answers to files; the exit code."""
    from fedlite.serve.predict import class_names, predict, taken_by
    from fedlite.serve.verify import deploy_folder

    arguments.refuse_flags(("--json", "--invert"))
    taken = arguments.take(*(name for name in OPTIONS if name != "input"))
    model, inputs = _model_and_inputs(arguments, taken.get("model"))
    folder = deploy_folder(model)
    output = _table(taken.get("output"), inputs)
    as_json = _is_on(arguments, taken, "json")
    cascade = _cascade(taken, folder)
    failures: list[FedliteError] = []

    def skip(error: FedliteError) -> None:
        say(str(error), error.exit_code)
        failures.append(error)

    alone = len(inputs) == 1 and not inputs[0].is_dir()
    found = predict(
        folder,
        inputs,
        invert=_is_on(arguments, taken, "invert"),
        skip=None if alone else skip,
        cascade=cascade,
    )
    if output is not None and found:
        as_table = output.suffix.lower() == ".csv"
        write_whole(output, _csv(found, class_names(folder)) if as_table else f"{_json(found)}\n")
    if as_json:
        print(_json(found))
    elif output is not None:
        print(f"{len(found):,} predictions  {output}")
    else:
        print(*map(_line, found), sep="\n", end="\n" if found else "")
    hints = [*_left_out(inputs, taken_by(folder)), *_notes(found)]
    if cascade is not None and cascade.trouble:
        hints.append(f"the student answered alone: {cascade.trouble}")
    for hint in hints:
        print(hint, file=sys.stderr)
    return max((error.exit_code for error in failures), default=0)


def _model_and_inputs(arguments: Arguments, model: str | None) -> tuple[Path, list[Path]]:
    """The model's place and what it is asked; without ``input=``, the words behind the former."""
    inputs = given_values(arguments, "input")
    arguments.options = [text for text in arguments.options if key_of(text) != "input"]
    if model is not None:
        arguments.words.insert(0, model)
    if not inputs:
        start = 0 if any(key_of(text) == RUN_DIR for text in arguments.options) else 1
        arguments.words, inputs = arguments.words[:start], arguments.words[start:]
    directory = arguments.directory()
    arguments.refuse_options(OPTIONS)
    if directory is None or not inputs or not all(inputs):
        missing = "the directory of a run and an input" if directory is None else "an input"
        raise UsageError(f"fedlite predict: give {missing}: fedlite predict DIR INPUT")
    return directory, [user_path(text) for text in inputs]


def _cascade(taken: dict[str, str], folder: Path) -> "Cascade | None":
    """Who is asked where the student is unsure; what that means is said before anything is sent."""
    given = [name for name in ASKING if name in taken]
    if "ask" not in taken:
        if given:
            raise UsageError(f"{given[0]}: only with ask=URL, the address of a teacher's server")
        return None
    from fedlite.serve.calibration import read_calibration
    from fedlite.serve.cascade import Cascade, RemoteTeacher
    from fedlite.serve.predict import choose_model
    from fedlite.serve.token import read_token

    threshold = read_calibration(choose_model(folder)).threshold
    if "threshold" in taken:
        threshold = _share("threshold", taken["threshold"])
    if threshold is None:
        raise UsageError(f"threshold: missing, {folder} has none; give threshold=0.8 or another")
    token_file, authority = (
        user_path(taken[name]) if name in taken else None for name in ("token_file", "ca")
    )
    teacher = RemoteTeacher(taken["ask"], read_token(token_file), authority=authority)
    print(
        f"asking {teacher.url}: inputs of which the student is less than {threshold:.0%} sure are"
        " sent there as they are; no epsilon covers them",
        file=sys.stderr,
    )
    return Cascade(teacher, threshold)


def _share(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"{name}={text}: must be a number from 0 to 1")
    return value


def _is_on(arguments: Arguments, taken: dict[str, str], name: str) -> bool:
    value = taken.get(name, "true" if f"--{name}" in arguments.flags else "false").lower()
    if value not in ("true", "false"):
        raise UsageError(f"{name}={value}: expected true or false")
    return value == "true"


def _table(name: str | None, inputs: Sequence[Path]) -> Path | None:
    """Where the probabilities go."""
    if name is None:
        return None
    path = user_path(name)
    if path.suffix.lower() not in TABLES:
        raise UsageError(f"output={name}: unknown kind; give {' or '.join(TABLES)}")
    if path.is_dir() or any(path.resolve() == one.resolve() for one in inputs):
        raise UsageError(f"output={name}: is a folder or an input; give another name")
    return path


def _line(prediction: "Prediction") -> str:
    """As many classes as fit in a line, one at least."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    line = f"{prediction.source}:"
    for place, (name, probability) in enumerate(prediction.probabilities[:SHOWN]):
        longer = f"{line}{' ' if place == 0 else '  '}{name} {probability:.3f}"
        if place and len(longer) > width:
            break
        line = longer
    return line


def _json(found: "Sequence[Prediction]") -> str:
    entries: list[dict[str, Any]] = [
        {
            "source": one.source,
            "class": one.probabilities[0][0],
            "probability": one.probabilities[0][1],
            "probabilities": dict(one.probabilities),
            "notes": list(one.notes),
        }
        for one in found
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False)


def _csv(found: "Sequence[Prediction]", classes: Sequence[str]) -> str:
    """A line for each example: its likeliest class, and the probability of every class."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["source", "class", "probability", *classes])
    for one in found:
        shares = dict(one.probabilities)
        name, probability = one.probabilities[0]
        cells = [probability, *(shares[name] for name in classes)]
        writer.writerow([one.source, name, *(f"{cell:.6g}" for cell in cells)])
    return buffer.getvalue()


def _left_out(inputs: Sequence[Path], kind: "Kind | Literal['text']") -> list[str]:
    """What in the folders is of a kind that cannot be predicted."""
    from fedlite.serve.inputs import contents_of

    found = []
    for folder in filter(Path.is_dir, inputs):
        kinds = Counter(path.suffix.lower() or "no suffix" for path in contents_of(folder, kind)[1])
        if kinds:
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            found.append(f"left out of {folder}: files of other kinds: {counts}")
    return found


def _notes(found: "Sequence[Prediction]") -> list[str]:
    """What was done to pictures and recordings, and to how many of them."""
    counts = Counter(note for one in found for note in one.notes)
    if len(found) == 1:
        return [f"note: {note}" for note in counts]
    return [f"note: {count} of {len(found)}: {note}" for note, count in counts.items()]
