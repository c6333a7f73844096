"""The search of a student's architecture, on public data."""

from functools import partial

from fedlite.base.files import write_whole
from fedlite.compress.measure import measure_cost
from fedlite.privacy.randomness import derive_seed
from fedlite.report.markdown import student_search_markdown
from fedlite.runs.facts import StudentSearchFacts
from fedlite.runs.pipeline import Pipeline
from fedlite.search.archive import write_search
from fedlite.search.students import search_student


def run(pipeline: Pipeline) -> StudentSearchFacts:
    """Write ``search_student/``; the facts are its section of a report."""
    config, splits, root = pipeline.config, pipeline.splits, pipeline.run
    directory = root.file("search_student")
    python = config.compress.converters.get(config.compress.formats[0])
    with pipeline.progress.stage("search-student", total=config.search_student.trials) as bar:
        found = search_student(
            pipeline.load("teacher").to(pipeline.device),
            splits.task,
            splits.public,
            splits.public_validation,
            config.search_student,
            config.compress,
            config.distill,
            config.dataset.augment,
            directory,
            derive_seed(config.seed, "search-student"),
            default=config.student,
            measure=partial(measure_cost, python=python),
            on_trial=lambda trial: bar.advance(),
        )
    section = write_search(found.search, directory, root.path)
    write_whole(directory / "report.md", student_search_markdown(section))
    board = pipeline.board(purge_step=None)
    if board is not None:
        with board:
            board.log_search(section, root.file("pictures"))
    return {**section, "student_file": str(found.path.relative_to(root.path))}
