"""What the private data bought and what ships: sentences that never contradict each other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.intervals import PairedComparison
from fedlite.base.paired_scores import PairedScores
from fedlite.report.judged import judged_scores, judgement_sentences, majority_of
from fedlite.report.table import comparison_markdown
from tests.report.runs import Report, finished_report, judgement

counts = st.tuples(*[st.integers(0, 300)] * 4).filter(lambda four: sum(four) > 0)


def pair(counts: tuple[int, int, int, int]) -> PairedComparison:
    both, public, federated, none = counts
    return PairedComparison(both + public + federated + none, both, public, federated)


def said(report: Report) -> str:
    return " ".join(judgement_sentences(report))


def judged(test: PairedComparison | None, *args: Any, **options: Any) -> Report:
    report = finished_report()
    report["judgement"] = judgement(test, *args, **options)
    return report


def check_no_contradiction(text: str, test: PairedComparison, ships: str) -> None:
    """What a sceptic would hold against the sentences."""
    gains = "bought nothing" not in text
    assert gains == (test.verdict == "better"), "a gain that chance explains, or a gain denied"
    assert not (gains and "public-only student is better" in text), "better and worse at once"
    if test.verdict == "no difference" and test.gained:
        assert "told from chance" in text, "a difference within chance is not called so"
    assert "improved" not in text
    assert f"The {ships} ships" in text, "the wrong student is said to ship"
    assert text.count(" ships") == 1, "two students ship"


@given(counts, counts, st.sampled_from(["best", "last"]))
def test_the_sentences_follow_from_the_counts(
    test: tuple[int, int, int, int], validation: tuple[int, int, int, int], keep: str
) -> None:
    chosen = "public_student" if keep == "best" and pair(validation).gained < 0 else None
    ships = chosen or "federated_student"
    text = said(judged(pair(test), pair(validation), ships=ships, keep=keep))
    name = "public-only student" if chosen else "federated student"
    check_no_contradiction(text, pair(test), name)
    assert "McNemar" in text
    assert "Wilson" in text
    against = {"federated_student": "worse", "public_student": "better"}
    assert ("the other one is better" in text) == (pair(test).verdict == against[ships])


def test_the_planted_sentence_by_the_sign_of_the_difference_is_caught() -> None:
    """As before: any difference above 0 was a gain."""
    five_of_300 = PairedComparison(300, 230, 20, 25)
    text = "The private data bought 1.7 points of accuracy. The federated student ships."
    with pytest.raises(AssertionError, match="a gain that chance explains"):
        check_no_contradiction(text, five_of_300, "federated student")


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (PairedComparison(360, 284, 4, 26), "bought 6.1 points of accuracy over the public-only"),
        (PairedComparison(360, 284, 4, 26), "(22 of 360 test examples; 95% interval of the gain +"),
        (PairedComparison(300, 230, 20, 25), "told from chance: the federated student is ahead"),
        (PairedComparison(300, 230, 20, 25), "5 of 300 test examples"),
        (PairedComparison(300, 230, 25, 20), "told from chance: the public-only student is ahead"),
        (
            PairedComparison(300, 230, 0, 0),
            "the public-only student is as accurate on 300 test",
        ),
        (PairedComparison(300, 200, 60, 10), "the public-only student is better by 16.7 points"),
    ],
)
def test_what_the_private_data_bought(test: PairedComparison, words: str) -> None:
    assert words in said(judged(test))


def test_what_ships_and_why() -> None:
    worse = PairedComparison(400, 300, 40, 10)
    text = said(judged(worse, worse, ships="public_student"))
    assert "The public-only student ships because it is right more often on public" in text
    assert "answers 310 (77.5%, 73.2% to 81.3%) right, the public-only student 340 (85.0%," in text
    assert "that is not chance (McNemar's exact test p < 0.001)" in text
    assert "never trained on private data; only the choice" in text


def test_without_validation_data_the_federated_student_ships_unjudged() -> None:
    text = said(judged(PairedComparison(300, 230, 0, 0), None))
    assert "ships, unjudged: no public example was kept from training" in text


def test_a_report_of_before_claims_nothing_that_it_does_not_know() -> None:
    report = finished_report()
    del report["judgement"]
    text = said(report)
    assert "not compared example by example" in text
    assert "ships" not in text
    assert "bought nothing" not in text


def test_held_out_examples_are_not_called_test_examples() -> None:
    report = judged(PairedComparison(300, 200, 60, 10))
    report["dataset"]["evaluated_on"] = "holdout"
    assert "held-out training examples" in said(report)
    assert "test examples" not in said(report)


def test_nothing_is_said_without_a_federated_student() -> None:
    report = finished_report()
    del report["models"]["federated_student"], report["judgement"]
    assert judgement_sentences(report) == []
    assert "Student, federated" not in comparison_markdown(report)


@pytest.mark.parametrize(
    ("scores", "words", "other"),
    [
        (PairedScores(0.60, 0.64, 0.01, 0.07), "bought 0.040 of macro-F1 over the public-only", ""),
        (PairedScores(0.60, 0.61, -0.02, 0.04), "no macro-F1 that can be told from chance", ""),
        (
            PairedScores(0.64, 0.60, -0.07, -0.01),
            "public-only student's macro-F1 is better by 0.040 (0.600 against 0.640 on 300 test",
            "On the test examples, which must not choose, the other one is better.",
        ),
    ],
)
def test_the_verdict_is_by_the_metric_that_was_asked_for(
    scores: PairedScores, words: str, other: str
) -> None:
    report = judged(PairedComparison(300, 200, 60, 10))  # by accuracy the public-only is better
    report["judgement"] |= {
        "test_scores": judged_scores(scores),
        "validation_scores": judged_scores(PairedScores(0.5, 0.6, 0.01, 0.2)),
    }
    text = said(report)
    assert words in text
    assert other in text
    assert "ships because it has the higher macro-F1 on public validation" in text
    assert "McNemar" not in text


def test_a_majority_class_student_is_called_one() -> None:
    rare = [[930, 2, 1], [43, 1, 0], [22, 0, 1]]
    found = majority_of("federated_student", rare, ["common", "rare", "rarest"])
    assert found is not None
    assert found["missed"] == pytest.approx(65 / 67)
    report = judged(PairedComparison(300, 230, 20, 25))
    report["judgement"]["majority"] = found
    text = said(report)
    assert "is a majority-class student: it answers 'common' to 99.5% of the test examples" in text
    assert "and to 97.0% of those of other classes" in text
    fair = [[900, 20, 13], [12, 30, 2], [6, 0, 17]]
    assert majority_of("public_student", fair, ["common", "rare", "rarest"]) is None
    assert majority_of("public_student", [], []) is None
    alone = [[10, 0], [0, 0]]
    assert majority_of("public_student", alone, ["a", "b"]) is None
