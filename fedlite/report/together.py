"""All jobs of a sweep together: what choosing among them has spent, in words."""

from collections.abc import Iterator
from pathlib import Path

from fedlite.report.sections import TogetherSection
from fedlite.report.words import NOT_PRIVATE, epsilon_text

NO_JOBS: TogetherSection = {"jobs": 0, "not_private": 0, "divisions": 1, "units": []}


def together_sentences(found: TogetherSection) -> list[str]:
    """What jobs on the same private data spent together; empty where there is but one."""
    return list(_sentences(found)) if found["jobs"] > 1 else []


def _sentences(found: TogetherSection) -> Iterator[str]:
    jobs = found["jobs"]
    for unit in found["units"]:
        which = f"All {jobs} jobs" if unit["jobs"] == jobs else f"{unit['jobs']} of {jobs} jobs"
        one = "one example" if unit["unit"] == "example" else "all the data of one client"
        sums = ", assuming that nobody sees single updates" if unit["assumes_sums"] else ""
        most = "at most " if found["divisions"] > 1 and unit["unit"] == "example" else ""
        yield (
            f"{which} together: {most}epsilon {epsilon_text(unit['epsilon'])} at delta"
            f" {unit['delta']:g} for {one} ({unit['accountant']}{sums})."
        )
    if any(unit["jobs"] < jobs for unit in found["units"]):
        yield "The other jobs do not protect that unit, so for all together there is no epsilon."
    if count := found["not_private"]:
        yield f"{count} of the {jobs} jobs {NOT_PRIVATE}: all together give no guarantee."
    yield (
        "They trained on the same private data: whoever chooses among them by their results has"
        " spent this, not the epsilon of the one that is chosen. Tuning on public data alone"
        " (`fedlite tune`) spends nothing."
    )


def log_together(found: TogetherSection, folder: Path) -> None:
    """Write the sentences and the epsilons to TensorBoard, as a run of the sweep's own folder."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        writer.add_text("2_how_private/all_jobs_together", "\n\n".join(together_sentences(found)))
        for unit in found["units"]:
            tag = f"2_how_private/{unit['unit']}_level_epsilon_of_all_jobs"
            writer.add_scalar(tag, unit["epsilon"], 0)
