"""Which student ships and what the private data bought, in sentences of one judgement each.

Every sentence follows from the counts of one comparison, its interval and its test, so that no two
of them say different things of the same numbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from fedlite.base.intervals import PairedComparison, wilson_interval
from fedlite.base.paired_scores import PairedScores
from fedlite.base.records import ModelKey, StudentKey
from fedlite.report.schema import Report
from fedlite.report.sections import JudgedPair, JudgedScores, MajoritySection
from fedlite.report.words import gain_over_public, percent, tested_on

NEARLY_ALWAYS = 0.9  # of the other classes' examples

STUDENTS: dict[ModelKey, str] = {
    "public_student": "public-only student",
    "federated_student": "federated student",
}


def judged_pair(found: PairedComparison) -> JudgedPair:
    """A comparison of the public-only student (first) with the federated one, for the report."""
    public, federated = found.accuracies
    return {
        "examples": found.examples,
        "both_right": found.both_right,
        "only_public_right": found.only_first,
        "only_federated_right": found.only_second,
        "public_accuracy": public,
        "public_interval": list(wilson_interval(public, found.examples)),
        "federated_accuracy": federated,
        "federated_interval": list(wilson_interval(federated, found.examples)),
        "difference": found.gained / found.examples,
        "difference_interval": list(found.interval),
        "p_value": found.p_value,
        "verdict": found.verdict,
    }


def judged_scores(found: PairedScores) -> JudgedScores:
    """A comparison by macro-F1 of the public-only student (first) with the federated one."""
    return {
        "public": found.first,
        "federated": found.second,
        "difference": found.gained,
        "difference_interval": [found.low, found.high],
        "verdict": found.verdict,
    }


def majority_of(
    student: StudentKey, confusion: Sequence[Sequence[int]], class_names: Sequence[str]
) -> MajoritySection | None:
    """Whether a student answers one class nearly always, other classes' examples included.

    Args:
        student: whose it is.
        confusion: (classes, classes), true class by answer; empty where it is not known.
        class_names: one for each class.
    """
    if not len(confusion):
        return None
    counts = np.asarray(confusion)
    answers, true = counts.sum(axis=0), counts.sum(axis=1)
    most = int(answers.argmax())
    others = int(true.sum() - true[most])
    missed = int(answers[most] - counts[most, most])
    if others == 0 or missed < NEARLY_ALWAYS * others:
        return None
    return {
        "student": student,
        "class_name": class_names[most],
        "share": float(answers[most] / answers.sum()),
        "missed": missed / others,
    }


def judgement_sentences(report: Report) -> list[str]:
    """What the private data bought, and which student ships and why; empty before either is known.

    Args:
        report: the report (docs/report.md); ``judgement`` is absent from old ones.
    """
    return [*_bought(report), *_ships(report), *_majority(report)]


def ships_public_only(report: Report) -> bool:
    """Whether what ships was made of the public-only student."""
    return "judgement" in report and report["judgement"]["ships"] == "public_student"


def _bought(report: Report) -> Iterator[str]:
    pair = report["judgement"]["test"] if "judgement" in report else None
    if gain_over_public(report) is None:
        return
    if pair is None:
        accuracies = (report["models"][key]["accuracy"] for key in STUDENTS)
        public, federated = map(percent, accuracies)
        yield (
            f"The federated student is {federated} accurate, the public-only student {public}. They"
            " were not compared example by example, so nothing is said of what the private data"
            " bought; `fedlite evaluate run.dir=DIR` compares them."
        )
        return
    examples = f"{pair['examples']:,} {tested_on(report)} examples"
    if scores := report["judgement"].get("test_scores"):
        yield _bought_by_score(scores, examples)
        return
    points = f"{100 * abs(pair['difference']):.1f} points"
    gained = f"{abs(pair['only_federated_right'] - pair['only_public_right']):,} of {examples}"
    low, high = pair["difference_interval"]
    sure = f"95% interval of the gain {100 * low:+.1f} to {100 * high:+.1f} points, {_test(pair)}"
    if pair["verdict"] == "better":
        yield (
            f"The private data bought {points} of accuracy over the public-only student ({gained};"
            f" {sure})."
        )
    elif pair["verdict"] == "worse":
        yield (
            "The private data bought nothing: the public-only student is better by"
            f" {points} ({gained}; {sure})."
        )
    elif pair["difference"] == 0:
        yield (
            "The private data bought nothing: the public-only student is as accurate on"
            f" {examples} ({sure})."
        )
    else:
        ahead = STUDENTS["federated_student" if pair["difference"] > 0 else "public_student"]
        yield (
            f"The private data bought nothing that can be told from chance: the {ahead} is ahead by"
            f" {points} ({gained}; {sure})."
        )


def _ships(report: Report) -> Iterator[str]:
    if "judgement" not in report:
        return
    found = report["judgement"]
    student, pair = found["ships"], found["validation"]
    ships = f"The {STUDENTS[student]} ships"
    if found["keep"] == "last":
        yield f"{ships}: federation.keep=last asks for it whatever public validation examples say."
    elif pair is None:
        yield (
            f"{ships}, unjudged: no public example was kept from training to choose by"
            " (dataset.validation_fraction)."
        )
    if pair is None:
        return
    scores = found.get("validation_scores")
    if found["keep"] == "best":
        why = "is right more often" if scores is None else "has the higher macro-F1"
        if (pair if scores is None else scores)["difference"] == 0:
            sure = "surer of the answers" if student == "public_student" else "no less sure"
            equal = "is right as often as the other" if scores is None else "has the same macro-F1"
            why = f"{equal}, and {sure} (cross-entropy),"
        yield f"{ships} because it {why} on public validation examples, which alone may choose."
    yield _numbers(pair) if scores is None else _score_numbers(scores, pair["examples"])
    if student == "public_student":
        yield (
            "The weights that ship were never trained on private data; only the choice looked at a"
            " student that was."
        )
    test = found.get("test_scores") or found["test"]
    other = "worse" if student == "federated_student" else "better"
    if test is not None and test["verdict"] == other:
        yield (
            f"On the {tested_on(report)} examples, which must not choose, the other one is better."
        )


def _bought_by_score(scores: JudgedScores, examples: str) -> str:
    """What the private data bought in macro-F1, on so many examples."""
    low, high = scores["difference_interval"]
    gain = f"{abs(scores['difference']):.3f}"
    sure = (
        f"{scores['federated']:.3f} against {scores['public']:.3f} on {examples}; 95% interval of"
        f" the gain {low:+.3f} to {high:+.3f}, bootstrap"
    )
    if scores["verdict"] == "better":
        return f"The private data bought {gain} of macro-F1 over the public-only student ({sure})."
    if scores["verdict"] == "worse":
        return (
            "The private data bought nothing: the public-only student's macro-F1 is better by"
            f" {gain} ({sure})."
        )
    return f"The private data bought no macro-F1 that can be told from chance ({sure})."


def _score_numbers(scores: JudgedScores, examples: int) -> str:
    """Both scores on the examples that judge, and whether they differ beyond chance."""
    low, high = scores["difference_interval"]
    chance = "chance explains the difference"
    if scores["verdict"] != "no difference":
        chance = "the difference is not chance"
    return (
        f"On {examples:,} such examples the federated student has a macro-F1 of"
        f" {scores['federated']:.3f}, the public-only student {scores['public']:.3f}; {chance} (95%"
        f" interval {low:+.3f} to {high:+.3f}, bootstrap)."
    )


def _majority(report: Report) -> Iterator[str]:
    if found := report.get("judgement", {}).get("majority"):
        yield (
            f"The {STUDENTS[found['student']]} is a majority-class student: it answers"
            f" '{found['class_name']}' to {percent(found['share'])} of the"
            f" {tested_on(report)} examples, and to {percent(found['missed'])} of those of other"
            " classes; its accuracy says little (dataset.metric=macro_f1,"
            " distill.class_weights=balanced)."
        )


def _numbers(pair: JudgedPair) -> str:
    """Both accuracies on the examples that judge, and whether they differ beyond chance."""
    alone, accuracy = pair["only_federated_right"], pair["federated_accuracy"]
    federated = _right(pair, alone, accuracy, pair["federated_interval"])
    alone, accuracy = pair["only_public_right"], pair["public_accuracy"]
    public = _right(pair, alone, accuracy, pair["public_interval"])
    chance = "chance explains that" if pair["verdict"] == "no difference" else "that is not chance"
    return (
        f"Of {pair['examples']:,} such examples the federated student answers {federated} right,"
        f" the public-only student {public} (95% intervals: Wilson's); {chance} ({_test(pair)})."
    )


def _right(pair: JudgedPair, alone: int, accuracy: float, interval: list[float]) -> str:
    low, high = interval
    return f"{pair['both_right'] + alone:,} ({accuracy:.1%}, {low:.1%} to {high:.1%})"


def _test(pair: JudgedPair) -> str:
    p = pair["p_value"]
    return f"McNemar's exact test p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"
