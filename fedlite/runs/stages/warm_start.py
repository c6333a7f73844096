"""The warm start: the student distilled on public data, before any private example is seen."""

from fedlite.base.records import score_of
from fedlite.base.tensors import on_cpu, save_tensors
from fedlite.distill.cache import cached_warm_start
from fedlite.distill.evaluate import evaluator
from fedlite.distill.warm_start import warm_start_steps
from fedlite.privacy.randomness import derive_seed
from fedlite.runs.facts import ModelFacts, evaluation_facts
from fedlite.runs.pipeline import Pipeline


def run(pipeline: Pipeline) -> ModelFacts:
    """Write ``public_student.pt``."""
    config, splits = pipeline.config, pipeline.splits
    student = pipeline.new_student().to(pipeline.device)
    teacher = pipeline.load("teacher").to(pipeline.device)
    steps = warm_start_steps(config.distill.warm_start, len(splits.public))
    with pipeline.progress.stage("public student", total=steps) as bar:
        cached = cached_warm_start(
            config.teacher.cache_dir,
            student,
            config.student,
            teacher,
            splits.public,
            config.distill,
            config.dataset.augment,
            derive_seed(config.seed, "warm-start"),
            lambda step: bar.advance(),
        )
        save_tensors(pipeline.run.file("public_student.pt"), on_cpu(student.state_dict()))
        evaluation = evaluator(student, splits.test, splits.task.num_classes)()
        if cached:
            bar.conclude("from the cache")
        bar.advance(0, **{pipeline.measured_as: score_of(evaluation, config.dataset.metric)})
    return {
        "source": "cache" if cached else "trained",
        "evaluation": evaluation_facts(evaluation),
    }
