"""What a teacher's pretrained folder decides beyond what is typed: its network, and the tokens."""

from dataclasses import replace
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.models.pretrained_files import MODULE, network_of
from fedlite.runs.config import Config


def with_pretrained(config: Config) -> Config:
    """``config`` with the network that its teacher's folder describes, so that clients build it
    without the folder, and with that folder's tokenizer where none was asked for.

    Raises:
        UsageError: no folder is given, or what it lacks.
    """
    teacher = config.teacher
    if teacher.module != MODULE:
        if teacher.checkpoint is not None and Path(teacher.checkpoint).is_dir():
            raise UsageError(
                f"teacher.checkpoint={teacher.checkpoint}: is a folder; give a file, or"
                " teacher=transformer for a folder of Hugging Face"
            )
        return config
    if teacher.checkpoint is None:
        raise UsageError(
            f"teacher={teacher.name}: needs teacher.checkpoint=FOLDER, a folder of Hugging Face"
        )
    if Path(teacher.checkpoint).is_file():
        raise UsageError(
            f"teacher.checkpoint={teacher.checkpoint}: is a file; teacher={teacher.name} needs the"
            " folder, with config.json and tokenizer.json"
        )
    try:
        found = network_of(teacher.checkpoint)
    except UsageError as error:
        raise UsageError(f"teacher.checkpoint={teacher.checkpoint}: {error}") from error
    text = config.dataset.text
    if text.tokenizer is None:
        text = replace(text, tokenizer=teacher.checkpoint)
    return replace(
        config,
        dataset=replace(config.dataset, text=text),
        teacher=replace(teacher, kwargs=found | teacher.kwargs),
    )
