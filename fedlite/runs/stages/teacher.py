"""The teacher: loaded, taken from the cache, or trained on public data."""

import logging
from typing import Literal

from fedlite.base.tensors import on_cpu, save_tensors
from fedlite.distill.cache import cached_teacher
from fedlite.distill.doubts import doubts_of
from fedlite.distill.evaluate import evaluator
from fedlite.distill.teacher import freeze, load_teacher_checkpoint
from fedlite.privacy.randomness import derive_seed
from fedlite.runs.facts import ModelFacts, evaluation_facts
from fedlite.runs.pipeline import Pipeline

log = logging.getLogger(__name__)


def run(pipeline: Pipeline) -> ModelFacts:
    """Write ``teacher.pt``."""
    config, splits = pipeline.config, pipeline.splits
    source: Literal["checkpoint", "cache", "trained"] = "checkpoint"
    with pipeline.progress.stage("teacher", total=config.teacher.epochs) as bar:
        if config.teacher.checkpoint is not None:
            teacher = pipeline.build(config.teacher).to(pipeline.device)
            load_teacher_checkpoint(teacher, config.teacher.checkpoint)
            freeze(teacher)
            bar.conclude("from its checkpoint")
        else:
            teacher, cached = cached_teacher(
                config.teacher,
                splits.task,
                splits.public,
                splits.public_validation,
                config.dataset.augment,
                derive_seed(config.seed, "teacher"),
                lambda epoch, accuracy: bar.advance(validation_accuracy=accuracy),
                pipeline.device,
            )
            source = "cache" if cached else "trained"
            if cached:
                bar.conclude("from the cache")
            elif bar.done < config.teacher.epochs:
                bar.conclude(f"stopped early: no better for {config.teacher.patience} epochs")
        save_tensors(pipeline.run.file("teacher.pt"), on_cpu(teacher.state_dict()))
        seen = splits.public_validation if config.teacher.checkpoint is None else splits.public
        doubts = doubts_of(teacher, config.teacher, splits.task, seen)
        evaluation = evaluator(teacher, splits.test, splits.task.num_classes)()
        shown = {f"{pipeline.tested}_accuracy": evaluation.accuracy}
        bar.advance(0, validation_accuracy=None, **shown)
    for doubt in doubts:
        log.warning(doubt)
        pipeline.progress.warn(doubt)
    return {"source": source, "evaluation": evaluation_facts(evaluation)}
