"""The front door for Python: what ``import fedlite`` offers, as functions of option strings.

Nothing here touches ``sys.argv``, the root logger or standard output.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedlite.base.chatter import without_chatter
from fedlite.base.errors import UsageError
from fedlite.runs.compose import compose_config, expand_files
from fedlite.runs.handle import Run
from fedlite.runs.literal import key_of
from fedlite.runs.saved import holds_run, with_saved

if TYPE_CHECKING:
    from fedlite.data.splits import Splits
    from fedlite.runs.forecast import Forecast
    from fedlite.serve.predict import Prediction
    from fedlite.serve.verify import Verdict


def simulate(*overrides: str, dir: str | Path | None = None, resume: bool = False) -> Run:
    """Run everything: teacher, federated distillation, compression, report.

    Args:
        overrides: options as on the command line, such as ``"privacy.epsilon=4"``; bars of progress
            are off unless ``"tracking.progress=true"`` is among them.
        dir: the run directory; None is ``outputs/<date>/<time>``.
        resume: go on with a run that is there; start it where there is none.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.

        run = simulate("federation.num_clients=50", dir="out")
        run.report["models"]["federated_student"]["accuracy"]
    """
    from fedlite.runs.class_jobs import has_classes
    from fedlite.runs.classes import execute_classes
    from fedlite.runs.execute import execute
    from fedlite.runs.stages.table import with_needed

    given = [*overrides] if dir is None else [*overrides, f"run.dir={Path(dir).absolute()}"]
    if dir is not None and resume and holds_run(Path(dir)):
        given = with_saved(Path(dir), given)
    given = expand_files(given)  # spelt out, a run goes on from any directory
    shown = any(key_of(text) == "tracking.progress" for text in given)
    config = compose_config(given if shown else [*given, "tracking.progress=false"])
    stages = with_needed("report")
    with without_chatter():
        if has_classes(config):
            return Run(execute_classes(config, given, stages, resume=resume).path)
        return Run(execute(config, given, stages, resume=resume).run.path)


def plan(*overrides: str) -> "Forecast":
    """What a configuration will spend, and its alternatives; trains and charges nothing.

    Raises:
        UsageError: no privacy to plan, a plan that cannot be kept, or several classes of students.
    """
    from fedlite.runs.class_jobs import has_classes
    from fedlite.runs.forecast import forecast

    config = compose_config(overrides)
    if has_classes(config):
        raise UsageError("federation.classes: each has a plan; add federation.class_name=NAME")
    return forecast(config)


def load_run(dir: str | Path) -> Run:
    """A run that is there, finished or not.

    Raises:
        UsageError: there is none.
    """
    return Run(Path(dir))


def load_splits(*overrides: str) -> "Splits":
    """The data of a configuration: public, private by client, test.

    Raises:
        UsageError: the data cannot be read, or the sizes asked for do not fit.
    """
    from fedlite.runs.splits import splits_of

    return splits_of(compose_config(overrides))


def predict(
    dir: str | Path, input: str | Path | Sequence[str | Path], *, invert: bool = False
) -> "list[Prediction]":
    """The classes of every example in files and folders, by a shipped model; needs no torch.

    Args:
        dir: a run directory, a deployable folder, or an exported file in one.
        input: a picture, an npy, an npz (array ``inputs``), a csv, or a folder of such files; or
            several of these.
        invert: swap dark and light in pictures.

    Raises:
        FedliteError: a file that is missing, damaged or of another shape.
    """
    from fedlite.serve.predict import predict as predict_files
    from fedlite.serve.verify import deploy_folder

    given = [input] if isinstance(input, str | Path) else input
    return predict_files(deploy_folder(Path(dir)), [Path(one) for one in given], invert=invert)


def verify(dir: str | Path, key: str | Path | None = None) -> "Verdict":
    """Check a deployable folder (or that of a run): sums, manifest, signature.

    Args:
        key: the signer's public key (PEM), got elsewhere than from the folder.

    Raises:
        UsageError: no such folder, or no public key.
    """
    from fedlite.serve.verify import deploy_folder, verify_bundle

    return verify_bundle(deploy_folder(Path(dir)), None if key is None else Path(key))
