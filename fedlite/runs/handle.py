"""A run for people who work in Python: what it reports, its student, what it spent."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fedlite.base.class_folders import CLASSES, one_run
from fedlite.base.errors import UsageError
from fedlite.base.files import read_json
from fedlite.report.schema import Report
from fedlite.runs.config import Config, config_from_plain
from fedlite.runs.directory import CONFIG_FILE

if TYPE_CHECKING:
    from torch import nn

    from fedlite.data.splits import Splits
    from fedlite.privacy.charges import Charge


class Run:
    """A run directory. Reads only; what was not finished is said when it is asked for.

    ``path`` is the directory; everything in it is described in docs/architecture.md.
    """

    def __init__(self, path: Path) -> None:
        if not (path / CONFIG_FILE).is_file():
            raise UsageError(f"{path}: no run there; start one with fedlite.simulate(dir=...)")
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def config(self) -> Config:
        """Every option of the run."""
        return config_from_plain(read_json(self.path / CONFIG_FILE))

    @cached_property
    def classes(self) -> "dict[str, Run]":
        """The run of each class of students, by name; empty where all clients have one student."""
        from fedlite.runs.class_jobs import has_classes

        if not has_classes(self.config):
            return {}
        return {name: Run(self.path / CLASSES / name) for name in self.config.federation.classes}

    @property
    def report(self) -> Report:
        """The report (docs/report.md).

        Raises:
            UsageError: the run is not finished.
        """
        from fedlite.report.write import load_report

        return load_report(one_run(self.path) / "report.json")

    def student(self) -> "nn.Module":
        """The federated student, in eval mode.

        Raises:
            UsageError: the federation is not finished, or the data set cannot be read.
        """
        from fedlite.base.tensors import load_tensors
        from fedlite.models.build import build_model, load_state

        file = one_run(self.path) / "federated_student.pt"
        if not file.is_file():
            raise UsageError(f"{self.path}: no federated student yet; finish the run")
        config = self.config
        task = self._splits.task
        model = build_model(config.student, task, config.seed)
        load_state(model, load_tensors(file), where=str(file))
        return model.eval()

    def spent(self) -> dict[str, float]:
        """Epsilon by unit of privacy, from the report; empty for a run that is not private.

        ``example`` is the maximum over clients.

        Raises:
            UsageError: the run is not finished.
        """
        return {unit["unit"]: unit["epsilon_max"] for unit in self.report["privacy"]["units"]}

    def ledgers(self) -> "dict[str, list[Charge]]":
        """Every charge by data set id, read from the ledgers themselves; ``server`` holds those of
        the released models.

        Raises:
            FedliteError: a ledger is missing or damaged.
        """
        from fedlite.privacy.ledger_folder import read_ledgers
        from fedlite.runs.pipeline import ledger_folder

        return read_ledgers(ledger_folder(self.config, one_run(self.path)))

    @cached_property
    def _splits(self) -> "Splits":
        from fedlite.runs.splits import splits_of

        return splits_of(self.config)
