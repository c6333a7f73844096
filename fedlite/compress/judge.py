"""The compression stage: fold norms, prune, recover, quantize, export, judge on public data."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.base.records import Artefact, ModelKey, StudentKey, score_of
from fedlite.compress.compare import (
    Comparison,
    check_structure,
    compare,
    runs_in,
    why_refused,
)
from fedlite.compress.exporting import export_file
from fedlite.compress.format import name_of, suffix_of
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.onnx.quantize import precision_of
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.norms import foldable_norms
from fedlite.compress.shrink.pruned_file import save_pruned
from fedlite.compress.shrink.shrinker import Shrinker
from fedlite.compress.shrink.sparsify import count_nonzero
from fedlite.data.types import PublicData
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.public import require_public
from fedlite.models.build import count_parameters

PRUNED: Final = "pruned_student"
QUANTIZED: Final = "quantized_student"
FEDERATED: Final = "federated_student"


@dataclass(frozen=True)
class CompressedStudent:
    """What compression made of a student.

    ``artefacts`` are all files, judged; ``shipped`` says by format which one of them goes into the
    deployable folder. ``folded_norms`` names the norms that were exchanged, and
    ``public_accuracy`` what each model (the student at full width, ``folded_student``,
    ``pruned_student``) reaches on the public examples that judge. ``max_difference`` is the largest
    difference of logits between the pruned model and its fp32 ONNX file, ``nonzero_weights``
    counts weights of its convolutions and linear layers.
    """

    artefacts: list[Artefact]
    shipped: dict[str, str]
    folded_norms: list[str]
    public_accuracy: dict[ModelKey, float]
    parameters_before: int
    parameters_folded: int
    parameters_after: int
    nonzero_weights: int
    max_difference: float


def compress_student(
    shrinker: Shrinker,
    validation: PublicData,
    config: CompressOptions,
    directory: Path,
    full: StudentKey = FEDERATED,
) -> CompressedStudent:
    """Make, export and judge the smaller forms of ``shrinker``'s student in ``directory``.

    Writes ``pruned_student.pt`` and, for every format, ``pruned_student`` (fp32) and
    ``quantized_student``; the ONNX files are always made, because every run is compared by them.
    ``folded_student.onnx`` is there where norms were exchanged. For each format the quantized
    file ships if it was not refused, else the pruned one, else the student as it was.

    Args:
        shrinker: the student, with the public data that may teach its smaller forms.
        validation: public examples that judge the files.
        config: how to compress.
        directory: made if missing; ``models/`` of a run directory.
        full: which student ``shrinker`` holds.

    Raises:
        TypeError: ``validation`` is not :class:`PublicData`.
        FedliteError: the student cannot be pruned as asked, or no file of a format may ship.
    """
    require_public(validation)
    directory.mkdir(parents=True, exist_ok=True)
    task = shrinker.task
    folded, pruned = shrinker.folded(config), shrinker.pruned(config)
    whole = evaluate_model(shrinker.student, validation, task.num_classes)
    accuracy: dict[ModelKey, float] = {full: whole.accuracy}
    folded_norms: list[str] = []
    if config.norms == "fold":
        folded_norms = foldable_norms(shrinker.student, task)
    if folded_norms:
        accuracy["folded_student"] = _accuracy(folded, validation, task.num_classes)
        export_onnx(folded, task, directory / "folded_student.onnx", config.opset)
    accuracy[PRUNED] = _accuracy(pruned, validation, task.num_classes)
    save_pruned(pruned, directory / f"{PRUNED}.pt")
    judge = _Judge(shrinker, validation, config, directory, full, score_of(whole, task.metric))
    artefacts: list[Artefact] = []
    shipped: dict[str, str] = {}
    for format_name in formats_made(config):
        made = list(judge.files_of(format_name))
        artefacts += made
        if format_name in config.formats:
            shipped[format_name] = _choose(made, full)
    onnx = directory / f"{PRUNED}.onnx"
    return CompressedStudent(
        artefacts=artefacts,
        shipped=shipped,
        folded_norms=folded_norms,
        public_accuracy=accuracy,
        parameters_before=count_parameters(shrinker.student),
        parameters_folded=count_parameters(folded),
        parameters_after=count_parameters(pruned),
        nonzero_weights=count_nonzero(pruned),
        max_difference=verify_onnx(pruned, onnx, shrinker.calibration(config).inputs),
    )


def formats_made(config: CompressOptions) -> list[str]:
    """The formats asked for, and ONNX, by which every run is compared."""
    return list(dict.fromkeys([*config.formats, "onnx"]))


@dataclass(frozen=True)
class _Judge:
    """Exports models and compares the files with them on public data."""

    shrinker: Shrinker
    validation: PublicData
    config: CompressOptions
    directory: Path
    full: StudentKey
    full_score: float  # of the student, by the task's metric

    def files_of(self, format_name: str) -> Iterator[Artefact]:
        """The files of one format; the full student's where all others were refused."""
        made = [self._file(PRUNED, format_name, self.shrinker.pruned(self.config))]
        if self.config.quantization != "none":
            model = self.shrinker.quantizable(self.config)
            made.append(self._file(QUANTIZED, format_name, model))
        yield from made
        if all(artefact.refused for artefact in made):
            yield self._file(self.full, format_name, self.shrinker.student)

    def _file(self, key: ModelKey, format_name: str, model: nn.Module) -> Artefact:
        config, shrinker = self.config, self.shrinker
        path = self.directory / f"{key}{suffix_of(format_name)}"
        artefact = Artefact(
            name=f"{key}.{format_name}",
            model=key,
            format=format_name,
            precision=precision_of(config) if key == QUANTIZED else "fp32",
            file=None,
            snr_db=None,
            agreement=None,
            public_accuracy=None,
            accuracy_drop=None,
        )
        calibration = shrinker.calibration(config)
        try:
            float_ops = export_file(
                format_name,
                model,
                shrinker.task,
                path,
                config,
                calibration,
                quantized=key == QUANTIZED,
            )
            found = self._compare(path, model)
        except FedliteError as error:
            return dataclasses.replace(artefact, refused=str(error))
        artefact = dataclasses.replace(artefact, file=path.name, float_ops=float_ops)
        if found is None:
            return artefact
        return dataclasses.replace(
            artefact,
            snr_db=found.snr_db,
            agreement=found.agreement,
            public_accuracy=found.accuracy,
            accuracy_drop=self.full_score - score_of(found, shrinker.task.metric),
            refused=why_refused(
                found,
                full_score=self.full_score,
                min_snr_db=config.min_snr_db,
                max_accuracy_drop=config.max_accuracy_drop,
                metric=shrinker.task.metric,
            ),
        )

    def _compare(self, path: Path, model: nn.Module) -> Comparison | None:
        """None where this machine has no runtime for the file: its structure alone is checked."""
        python = self.config.converters.get(name_of(path) or "")
        if runs_in(path, python):
            return compare(path, model, self.validation, python)
        check_structure(path, self.shrinker.task, python)
        return None


def _choose(made: list[Artefact], full: StudentKey) -> str:
    """The name of the file of one format that ships.

    Raises:
        FedliteError: all of them were refused.
    """
    for key in (QUANTIZED, PRUNED, full):
        for artefact in made:
            if artefact.model == key and not artefact.refused:
                return artefact.name
    reasons = "; ".join(f"{artefact.name}: {artefact.refused}" for artefact in made)
    raise FedliteError(f"compress.formats: no {made[0].format} file may ship ({reasons})")


def _accuracy(model: nn.Module, data: PublicData, num_classes: int) -> float:
    return evaluate_model(model, data, num_classes).accuracy
