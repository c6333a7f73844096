"""The teacher: loaded, taken from the cache, or trained on public data."""

from typing import Literal

from fedlite.base.records import score_of
from fedlite.base.tensors import on_cpu, save_tensors
from fedlite.distill.answers import in_channels_last
from fedlite.distill.cache import cached_teacher
from fedlite.distill.doubts import doubt_of
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.teacher import load_teacher
from fedlite.privacy.randomness import derive_seed
from fedlite.runs.facts import ModelFacts, evaluation_facts
from fedlite.runs.pipeline import Pipeline


def run(pipeline: Pipeline) -> ModelFacts:
    """Write ``teacher.pt``."""
    config, splits, metric = pipeline.config, pipeline.splits, pipeline.config.dataset.metric
    source: Literal["checkpoint", "cache", "trained"] = "checkpoint"
    judged = f"public_validation_{metric}"
    with pipeline.progress.stage("teacher", total=config.teacher.epochs) as bar:
        if as_it_is := config.teacher.checkpoint is not None and config.teacher.fine_tune == "none":
            teacher = pipeline.build(config.teacher).to(pipeline.device)
            load_teacher(teacher, config.teacher, splits.task)
            bar.conclude("from its checkpoint")
        else:
            teacher, cached = cached_teacher(
                config.teacher,
                splits.task,
                splits.public,
                splits.public_validation,
                config.dataset.augment,
                derive_seed(config.seed, "teacher"),
                lambda epoch, found: bar.advance(**{judged: score_of(found, metric)}),
                pipeline.device,
            )
            source = "cache" if cached else "trained"
            if cached:
                bar.conclude("from the cache")
            elif bar.done < config.teacher.epochs:
                bar.conclude(f"stopped early: no better for {config.teacher.patience} epochs")
        save_tensors(pipeline.run.file("teacher.pt"), on_cpu(teacher.state_dict()))
        seen = splits.public if as_it_is else splits.public_validation
        doubt = doubt_of(teacher, config.teacher, splits.task, seen)
        # Its features alone would be those of inputs in the data set's scale.
        evaluation = evaluate_model(
            in_channels_last(teacher, splits.test.inputs[:2]), splits.test, splits.task.num_classes
        )
        bar.advance(0, **{judged: None, pipeline.measured_as: score_of(evaluation, metric)})
    if doubt:
        pipeline.warn(doubt)
    return {"source": source, "evaluation": evaluation_facts(evaluation)}
