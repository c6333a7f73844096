"""A run in TensorBoard, laid out for three questions: how good, how private, how costly."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from fedlite.base.records import Evaluation, RoundRecord
from fedlite.report import charts, drawing, pareto, quality_charts
from fedlite.report.artefacts import all_entries, artefacts_markdown, is_measured, latency_ms
from fedlite.report.audit_sections import AuditsSection
from fedlite.report.cascade import cascade_markdown
from fedlite.report.events import Events, Tracker
from fedlite.report.fleet import CLIENT_COUNTS
from fedlite.report.hparams import RESULT, result_values, session_summaries
from fedlite.report.judged import judgement_sentences
from fedlite.report.memory import memory_numbers
from fedlite.report.parts import plain
from fedlite.report.privacy_statement import privacy_numbers, privacy_statement
from fedlite.report.quality import file_label, quality_markdown
from fedlite.report.schema import PrivacySection, Report, SearchSection
from fedlite.report.searches import search_markdown
from fedlite.report.table import comparison_markdown
from fedlite.report.words import (
    NOT_PRIVATE,
    is_private,
    not_private_reason,
)
from fedlite.report.write import summed_up

GOOD, PRIVATE, COSTLY, CLIENTS = "1_how_good", "2_how_private", "3_how_costly", "4_clients"
BASELINES, PICTURES, AUDITS = "5_baselines", "6_pictures", "7_audits"
ARTEFACTS, SEARCH = "8_artefacts", "9_search"

THUMBNAIL = 0.7  # of the inches of a report's picture, so that its words are larger within it

# Lines of the Multiline kind are smoothed until the reader turns that off, all lines of a run have
# one colour. Charts of the Margin kind are not smoothed, and the two ends of their band cannot be
# confused; all tags of one need the same steps.


def _band(value: str, lower: str, upper: str) -> list[Any]:
    return ["Margin", [value, lower, upper]]


def _exact(value: str) -> list[Any]:
    return _band(value, value, value)


LAYOUT: dict[str, dict[str, list[Any]]] = {
    "1 · How good": {
        "accuracy (line), from the public-only student to the teacher (band)": _band(
            f"{GOOD}/accuracy",
            f"{BASELINES}/accuracy_of_public_student",
            f"{BASELINES}/accuracy_of_teacher",
        ),
        "points of accuracy over the public-only student": _exact(
            f"{GOOD}/points_over_public_student"
        ),
        "macro-F1 (line), from the public-only student to the teacher (band)": _band(
            f"{GOOD}/macro_f1",
            f"{BASELINES}/macro_f1_of_public_student",
            f"{BASELINES}/macro_f1_of_teacher",
        ),
        "loss": _exact(f"{GOOD}/loss"),
    },
    "2 · How private": {
        "epsilon spent, most over clients (line), and left of the budget (band)": _band(
            f"{PRIVATE}/epsilon_max", f"{PRIVATE}/epsilon_max", f"{PRIVATE}/budget"
        ),
        "noise multiplier": _exact(f"{PRIVATE}/noise_multiplier"),
    },
    "3 · How costly": {
        "bytes of the file that ships": ["Multiline", [f"{RESULT}/bytes$"]],
        "its milliseconds for one example": ["Multiline", [f"{RESULT}/latency_ms_p50$"]],
        "bytes per round, the teacher apart": [
            "Multiline",
            [f"{COSTLY}/bytes_down$", f"{COSTLY}/bytes_up$"],
        ],
        "seconds per round": ["Multiline", [f"{COSTLY}/seconds_total$"]],
        "clients per round": ["Multiline", [f"{CLIENTS}/(trained|refused|failed)$"]],
    },
}

CLIENT_LEVEL_CHARTS: dict[str, list[Any]] = {
    "client-level epsilon spent (line), and left of the budget (band)": _band(
        f"{PRIVATE}/client_level_epsilon",
        f"{PRIVATE}/client_level_epsilon",
        f"{PRIVATE}/client_level_budget",
    ),
    "clip of a client's update": _exact(f"{PRIVATE}/clip"),
}

FLEET_CHARTS: dict[str, list[Any]] = {
    "accuracy by simulated time (horizontal axis: relative)": [
        "Multiline",
        [f"{GOOD}/accuracy_by_simulated_time$"],
    ],
    "simulated seconds of a round": ["Multiline", [f"{COSTLY}/simulated_seconds$"]],
    "simulated joules of a round, all clients": ["Multiline", [f"{COSTLY}/simulated_joules$"]],
}


class RunBoard:
    """Writes one run's TensorBoard events. It sees only what the run may publish.

    Args:
        log_dir: where the event file goes; one folder for each run.
        purge_step: the first round that is run again after a resume; what an earlier, broken-off
            process wrote for it and later rounds is hidden.
        client_level: whether the run spends client-level privacy, which has charts of its own.
        fleet: whether its rounds are timed on simulated devices, which have charts of their own.
        tracker: told every scalar too, under the same tag.
        events: False writes no event file: the tracker alone is told.
        swept: in a job of a sweep, the options that the sweep varies, as they were typed.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        purge_step: int | None = None,
        client_level: bool = False,
        fleet: bool = False,
        tracker: Tracker | None = None,
        events: bool = True,
        swept: Mapping[str, str] | None = None,
    ) -> None:
        self._swept, self._events = swept or {}, events
        _wait_for_a_new_second(log_dir)
        self._writer = Events(log_dir, purge_step, tracker, written=events)
        self._baselines: dict[str, Evaluation] = {}
        own = {"2b · How private, client-level": CLIENT_LEVEL_CHARTS} if client_level else {}
        own |= {"3b · How long on the fleet": FLEET_CHARTS} if fleet else {}
        layout = LAYOUT | own
        self._writer.add_custom_scalars(_as_read(_without_bands(layout) if swept else layout))
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush everything to disk and close the event file."""
        self._writer.close()

    def log_partition(
        self, class_counts: Sequence[Sequence[int]] | NDArray[Any], class_names: Sequence[str]
    ) -> None:
        """Show which client holds which classes. For simulations only: it is private data."""
        self._picture(
            f"{PICTURES}/partition_simulation_only",
            lambda: charts.partition_heatmap(class_counts, class_names),
        )

    def log_plan(self, privacy: PrivacySection) -> None:
        """Show the privacy plan before training.

        Args:
            privacy: the report's ``privacy`` part; its units need not hold any epsilon yet.
        """
        self._warn(privacy)
        parts = [self._headline(privacy), *map(privacy_numbers, privacy["units"])]
        self._writer.add_text(f"{PRIVATE}/plan", "\n\n".join(parts))
        self._writer.flush()

    def log_baseline(self, name: str, evaluation: Evaluation) -> None:
        """Draw a model's scores beside the federated student's, in every round that has some.

        Args:
            name: ``teacher`` or ``public_student``.
            evaluation: of that model on the test set.
        """
        self._baselines[name] = evaluation

    def log_round(
        self,
        record: RoundRecord,
        *,
        noise_multiplier: float | None,
        budget: float | None,
        client_budget: float | None = None,
    ) -> None:
        """Write a finished round: its evaluation if there is one, epsilons, traffic and seconds."""
        scalars: dict[str, float] = {}
        if record.evaluation:
            for name, found in self._baselines.items():
                scalars[f"{BASELINES}/accuracy_of_{name}"] = found.accuracy
                scalars[f"{BASELINES}/macro_f1_of_{name}"] = found.macro_f1
            scalars[f"{GOOD}/accuracy"] = record.evaluation.accuracy
            scalars[f"{GOOD}/macro_f1"] = record.evaluation.macro_f1
            scalars[f"{GOOD}/loss"] = record.evaluation.loss
            if (public := self._baselines.get("public_student")) is not None:
                points = 100 * (record.evaluation.accuracy - public.accuracy)
                scalars[f"{GOOD}/points_over_public_student"] = points
        if record.epsilons:
            epsilons, summary = np.asarray(record.epsilons), summed_up(record.epsilons)
            scalars[f"{PRIVATE}/epsilon_max"] = summary["max"]
            scalars[f"{PRIVATE}/epsilon_mean"] = summary["mean"]
            scalars[f"{PRIVATE}/epsilon_p95"] = summary["p95"]
            self._writer.add_histogram(f"{PRIVATE}/epsilon_clients", epsilons, record.round, "auto")
            if budget is not None:
                scalars[f"{PRIVATE}/budget"] = budget
        if noise_multiplier is not None:
            scalars[f"{PRIVATE}/noise_multiplier"] = noise_multiplier
        if record.client_level_epsilon is not None:
            scalars[f"{PRIVATE}/client_level_epsilon"] = record.client_level_epsilon
            if client_budget is not None:
                scalars[f"{PRIVATE}/client_level_budget"] = client_budget
        if record.clip is not None:
            scalars[f"{PRIVATE}/clip"] = record.clip
        scalars[f"{COSTLY}/bytes_down"] = record.bytes_down - record.teacher_bytes
        scalars[f"{COSTLY}/bytes_teacher"] = record.teacher_bytes
        scalars[f"{COSTLY}/bytes_up"] = record.bytes_up
        scalars |= {f"{COSTLY}/seconds_{part}": spent for part, spent in record.seconds.items()}
        scalars[f"{CLIENTS}/trained"] = record.clients_trained
        scalars[f"{CLIENTS}/refused"] = record.clients_refused
        scalars[f"{CLIENTS}/failed"] = record.clients_failed
        scalars[f"{CLIENTS}/sum_released"] = record.released
        if record.simulated:
            self._log_simulated(record, scalars)
        if record.refusals:
            lines = [f"- {count} x {plain(reason)}" for reason, count in record.refusals.items()]
            self._writer.add_text(f"{CLIENTS}/refusals", "\n".join(lines), record.round)
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, record.round)
        self._writer.flush()

    def _log_simulated(self, record: RoundRecord, scalars: dict[str, float]) -> None:
        """Add what the fleet says of a round; accuracy goes by simulated wall clock."""
        simulated = record.simulated
        for name, value in simulated.items():
            group = CLIENTS if name in CLIENT_COUNTS else COSTLY
            scalars[f"{group}/simulated_{name}"] = value
        if record.evaluation:
            self._writer.add_scalar(
                f"{GOOD}/accuracy_by_simulated_time",
                record.evaluation.accuracy,
                record.round,
                walltime=simulated["clock_seconds"],
            )

    def log_final(
        self,
        report: Report,
        class_names: Sequence[str],
        confusion: Sequence[Sequence[int]] | NDArray[Any] | None = None,
        confusion_of: str = charts.FEDERATED,
    ) -> None:
        """Write the comparison, the privacy statement, the closing pictures and the HParams row.

        Args:
            report: the report dictionary (docs/report.md).
            class_names: one name for each class.
            confusion: (classes, classes) of a student on the test set, if there is one.
            confusion_of: which student it is of.
        """
        privacy = report["privacy"]
        self._warn(privacy)
        parts = [self._headline(privacy), comparison_markdown(report)]
        parts += [f"**{plain(sentence)}**" for sentence in judgement_sentences(report)]
        self._writer.add_text(f"{GOOD}/comparison", "\n\n".join(parts))
        self._writer.add_text(f"{PRIVATE}/statement", privacy_statement(privacy))
        if confusion is not None:
            matrix = partial(charts.confusion_matrix, confusion, class_names, confusion_of)
            self._picture(f"{PICTURES}/confusion_matrix", matrix)
        if report["models"]:
            self._log_artefacts(report)
        if report.get("quality"):
            self._log_quality(report)
        scalars: dict[str, float] = dict(result_values(report))
        if memory := report.get("memory"):
            numbers = memory_numbers(memory).items()
            scalars |= {f"{COSTLY}/peak_memory_bytes_{name}": value for name, value in numbers}
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, report["federation"]["rounds"])
        assert self._writer.file_writer is not None  # the board is open
        for summary in session_summaries(report, self._swept):
            self._writer.file_writer.add_summary(summary)
        self._writer.flush()

    def log_search(self, search: SearchSection, folder: Path) -> None:
        """Show what a search found, and its pictures.

        Args:
            search: the report's ``search`` (docs/report.md).
            folder: holds its pictures as PNG files.
        """
        self._writer.add_text(f"{SEARCH}/{search['kind']}", search_markdown(search))
        for name in search["pictures"] if self._events else ():
            pixels = imread(folder / f"{name}.png")
            self._writer.add_image(f"{SEARCH}/{name}", pixels, dataformats="HWC")
        self._writer.flush()

    def _log_artefacts(self, report: Report) -> None:
        """One table, two pictures, and accuracy, bytes and latency of each file."""
        self._writer.add_text(f"{ARTEFACTS}/table", artefacts_markdown(report))
        for figure_of in (pareto.accuracy_against_latency, pareto.accuracy_against_bytes):
            self._picture(f"{PICTURES}/{figure_of.__name__}", partial(figure_of, report))
        for entry in filter(is_measured, all_entries(report)):
            measures = {
                "accuracy": entry["accuracy"],
                "bytes": entry["bytes"],
                "latency_ms_p50": latency_ms(entry),
            }
            for measure, value in measures.items():
                self._writer.add_scalar(f"{ARTEFACTS}/{measure}/{entry['name']}", value, 0)

    def _log_quality(self, report: Report) -> None:
        """Classes and calibration of the teacher's file and of those that ship; their cascade."""
        for name, entry in report["quality"].items():
            words = f"# {file_label(name, report)}\n\n{quality_markdown(name, report)}"
            self._writer.add_text(f"{ARTEFACTS}/classes/{name}", words)
            error = entry["calibration_error"]
            self._writer.add_scalar(f"{ARTEFACTS}/calibration_error/{name}", error, 0)
            for place, one in enumerate(entry["classes"]):
                if one["f1"] is not None:
                    self._writer.add_scalar(f"{ARTEFACTS}/f1_by_class/{name}", one["f1"], place)
        self._picture(
            f"{PICTURES}/reliability", partial(quality_charts.reliability_diagram, report)
        )
        if "cascade" in report:
            self._writer.add_text(f"{ARTEFACTS}/cascade", cascade_markdown(report))
            self._picture(f"{PICTURES}/cascade", partial(quality_charts.cascade_chart, report))

    def log_audit(self, results: AuditsSection, figures: Mapping[str, Figure]) -> None:
        """Write what a part of an audit found: its numbers under their path, and its pictures.

        Args:
            results: nested, as in ``audits.json``; all that is not a number is left out.
            figures: by name.
        """
        for tag, value in _numbers(results, AUDITS):
            self._writer.add_scalar(tag, value, 0)
        for name, figure in figures.items():
            self._show(f"{PICTURES}/{name}", figure)
        self._writer.flush()

    def _headline(self, privacy: PrivacySection) -> str:
        if is_private(privacy):
            return ""
        return f"# 🛑 {NOT_PRIVATE}\n\n**{not_private_reason(privacy)}**"

    def _warn(self, privacy: PrivacySection) -> None:
        """TensorBoard takes colour out of text, so the red words are a picture."""
        if not is_private(privacy):
            reason = not_private_reason(privacy)
            self._picture("0_NOT_PRIVATE/warning", lambda: charts.not_private_banner(reason))

    def _picture(self, tag: str, draw: Callable[[], Figure]) -> None:
        """Show what is drawn only if there is an event file: a tracker has no pictures."""
        if self._events:
            self._show(tag, draw())

    def _show(self, tag: str, figure: Figure) -> None:
        """On fewer inches than in the report and of as many pixels, where its layout is free."""
        if figure.axes and isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            width, height = figure.get_size_inches()
            figure.set_size_inches(THUMBNAIL * width, THUMBNAIL * height)
            figure.set_dpi(figure.get_dpi() / THUMBNAIL)
        self._writer.add_image(tag, drawing.figure_pixels(figure), dataformats="HWC")


def _without_bands(layout: Mapping[str, dict[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
    """A layout for one of several runs that are looked at together, whose bands would lie upon each
    other: their lines alone."""
    return {
        title: {
            name.partition(" (line)")[0]: _exact(chart[1][0]) if chart[0] == "Margin" else chart
            for name, chart in category.items()
        }
        for title, category in layout.items()
    }


def _as_read(layout: Mapping[str, dict[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
    """A layout that TensorBoard shows in the order of ``layout``: it puts the Margin charts of a
    category behind the others, the last one first."""
    found = {}
    for title, category in layout.items():
        bands = {name: chart for name, chart in category.items() if chart[0] == "Margin"}
        others = {name: chart for name, chart in category.items() if name not in bands}
        found[title] = others | dict(reversed(bands.items()))
    return found


def _numbers(value: object, tag: str) -> Iterator[tuple[str, float]]:
    """The numbers of nested dictionaries with their paths."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, f"{tag}/{key}")
    elif isinstance(value, bool | int | float):
        yield tag, float(value)


def _wait_for_a_new_second(folder: Path) -> None:
    """TensorBoard reads event files by name, and names of one second are in no order."""
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)
