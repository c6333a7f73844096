"""``fedlite plan``: the trade between noise, rounds and epsilon, seen before anything is spent."""

import re
from pathlib import Path

import pytest
from PIL import Image

from fedlite.cli.main import run
from fedlite.federation.plans import build_client_plan, build_plan
from fedlite.privacy.accounting import compute_epsilon
from fedlite.report.charts import planned_epsilon
from fedlite.runs.compose import compose_config
from fedlite.runs.forecast import nominal_sizes, plan_guarantees
from tests.e2e.command import refusal

FAST = ("privacy.accountant=rdp", "federation.num_clients=50", "federation.rounds=40")
NO_DATA = "dataset.root=/no/such/folder"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``fedlite plan`` prints."""
    capsys.readouterr()
    assert run(["plan", *arguments]) == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def row(text: str, start: str, accountant: str) -> list[float]:
    """The epsilons of one row of the second table: those of ``start`` by ``accountant``."""
    table = text[text.index("Epsilon after") :]
    (found,) = re.findall(rf"^{re.escape(start)} +{accountant} +(.+)$", table, re.MULTILINE)
    return [float(cell.replace(",", "")) for cell in found.split()]


def test_it_shows_every_guarantee_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = (*FAST, "privacy.epsilon=4", "privacy.expected_examples=null")
    shown = printed(capsys, "experiment=fashion_mnist", NO_DATA, *options)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert shown.index("Example-level, local (chosen)") < shown.index("Example-level, aggregate")
    assert "Client-level, central" in shown
    assert shown.splitlines()[0].startswith("Clients: 50, all of them in each of 40 rounds.")
    assert "delta 1e-05 suits clients of fewer than 100,000 examples" in shown
    assert "Constants worked out from private data" in shown
    assert "privacy.expected_examples (the average number of examples" in " ".join(shown.split())
    assert list(tmp_path.iterdir()) == []


def test_its_numbers_are_those_of_the_plans_that_a_run_would_follow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (*FAST, "privacy.epsilon=4", "privacy.client.epsilon=4")
    shown = printed(capsys, *options)
    config = compose_config(options)
    trusting = compose_config([*options, "privacy.trust=aggregate"])
    aggregate = build_plan(trusting.privacy, trusting.federation, [1] * 50)
    client = build_client_plan(config.privacy, config.federation, 50)
    local = build_plan(config.privacy, config.federation, [1] * 50)
    assert f"{local.noise_multiplier:.3f}" in shown
    assert f"{aggregate.client_noise_multiplier:.3f}" in shown
    assert f"{client.noise_multiplier:.3f}" in shown
    rounds = (1, 10, 20, 30, 40)
    expected = [local.epsilon_after(count) for count in rounds]
    assert row(shown, "Example-level, local (chosen)", "pld")[-1] < 4
    assert shown.count(" rdp ") == 3
    by_rdp = [float(cell) for cell in re.findall(r"^ +rdp +(.+)$", shown, re.MULTILINE)[0].split()]
    assert by_rdp == pytest.approx(expected, abs=0.01)
    by_pld = row(shown, "Client-level, central", "pld")
    assert by_pld == pytest.approx([client.epsilon_after(count) for count in rounds], abs=0.01)
    alone = [(aggregate.client_noise_multiplier, aggregate.sample_rate, 40)]
    towards_server = row(shown, "  towards the server", "pld")
    assert towards_server[-1] == pytest.approx(compute_epsilon(alone, 1e-5, "pld"), abs=1)
    assert towards_server[-1] > 5 * 4


def test_the_picture_has_a_full_line_for_what_is_chosen_and_dashes_for_the_rest() -> None:
    curves = {"chosen": [1.0, 2.0], "other": [1.0, 2.0], "third": [30.0, 400.0]}
    (axes,) = planned_epsilon([1, 9], curves, ["chosen"]).axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert {name: list(line.get_ydata()) for name, line in drawn.items()} == curves
    assert [line.is_dashed() for line in drawn.values()] == [False, True, True]
    assert axes.get_yscale() == "log"


def test_alternatives_have_the_budget_of_the_chosen_plan() -> None:
    config = compose_config([*FAST, "privacy=client", "privacy.client.epsilon=2.5"])
    chosen, *others = plan_guarantees(config, [1] * 50)[0]
    assert (chosen.trust, chosen.chosen, chosen.plan.epsilon) == ("central", True, 2.5)
    assert [(one.trust, one.chosen) for one in others] == [("local", False), ("aggregate", False)]
    assert {one.plan.epsilon for one in others} == {2.5}


def test_both_units_are_chosen_and_each_has_its_own_budget() -> None:
    options = ("privacy=both", "privacy.epsilon=6", "privacy.client.epsilon=2")
    found, refusals = plan_guarantees(compose_config([*FAST, *options]), [1] * 50)
    assert [(one.trust, one.plan.epsilon, one.chosen) for one in found] == [
        ("local", 6, True),
        ("central", 2, True),
        ("aggregate", 6, False),
    ]
    assert found[-1].needs == "privacy.unit=example"
    assert refusals == {}


def test_what_an_alternative_must_change_is_said() -> None:
    options = ("federation.local_steps=5", "federation.fraction=0.2")
    found, _ = plan_guarantees(compose_config([*FAST, *options]), [1] * 50)
    assert {one.trust: one.needs for one in found} == {
        "local": "",
        "aggregate": "federation.local_steps=1",
        "central": "federation.sampling=bernoulli",
    }


def test_an_alternative_that_cannot_be_had_is_named_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = printed(capsys, *FAST, "federation.num_clients=1")
    assert "Example-level, aggregate: cannot be had. privacy.aggregate.min_cohort" in shown


def test_under_sampling_epsilon_is_that_of_the_client_asked_most_often() -> None:
    config = compose_config([*FAST, "federation.fraction=0.1"])
    local = plan_guarantees(config, [1] * 50)[0][0]
    assert local.plan.max_participations < 40  # type: ignore[union-attr]
    by_round = [local.epsilon_after(count) for count in (1, 10, 40)]
    assert by_round == sorted(by_round)
    assert by_round[-1] == local.plan.epsilon_after(local.plan.max_participations)  # type: ignore[union-attr]
    assert by_round[0] == local.plan.epsilon_after(1)


def test_the_data_set_is_read_only_where_it_decides_something() -> None:
    def sizes(*options: str) -> list[int]:
        return nominal_sizes(compose_config(["federation.num_clients=7", *options]))

    open_size = ("experiment=fashion_mnist", "privacy.expected_examples=null")
    assert sizes(*open_size, NO_DATA) == [1] * 7
    assert sizes("privacy.expected_examples=90", "privacy.delta=1e-3") == [90] * 7
    assert sum(sizes("dataset=digits", "privacy.delta=1e-3")) > 1000


def test_the_batch_is_shown_where_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "(about " not in printed(capsys, *FAST)
    known = printed(capsys, *FAST, "privacy.expected_examples=120", "privacy.sample_rate=0.25")
    assert "at sample rate 0.25 (about 30 examples)" in " ".join(known.split())


def test_deterministic_runs_are_called_not_private(capsys: pytest.CaptureFixture[str]) -> None:
    assert "NOT PRIVATE" not in printed(capsys, *FAST)
    assert "NOT PRIVATE" in printed(capsys, *FAST, "privacy.randomness=deterministic")


def test_a_picture_is_drawn_where_it_is_wanted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert printed(capsys, *FAST, "output=new/trade.png").endswith("picture  new/trade.png\n")
    with Image.open(tmp_path / "new" / "trade.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["privacy.epsilon=0"], ["privacy.epsilon=0", "> 0"]),
        (["privacy.epsilon=inf"], ["privacy.epsilon=inf", "finite"]),
        (["privacy=client", "privacy.client.epsilon=0"], ["privacy.client.epsilon=0", "> 0"]),
        (["privacy=client", "privacy.client.epsilon=inf"], ["privacy.client.epsilon", "finite"]),
        (["privacy.epsilon=1e-6"], ["privacy.epsilon=1e-06", "no noise multiplier"]),
        (["privacy.delta=0.5"], ["privacy.delta=0.5", "1/n"]),
        (["privacy=client", "privacy.client.delta=0.5"], ["privacy.client.delta=0.5", "1/50"]),
        (["privacy.noise_multiplier=1e-3"], ["noise_multiplier=0.001", "privacy.epsilon=8"]),
        (["privacy=none"], ["privacy.unit=none", "nothing to plan"]),
        (["experiment=har", NO_DATA, "federation.num_clients=null"], ["/no/such/folder"]),
        (["dataset=mnist", NO_DATA, "privacy.delta=1e-3"], ["privacy.expected_examples=N"]),
        (["privacy.epsilom=4"], ["privacy.epsilom"]),
        (["-m"], ["-m"]),
        (["output="], ["output"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_planned_is_one_line(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, 2, "plan", *FAST, *arguments)
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def test_it_foresees_the_rounds_on_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, *FAST, "dataset=digits", "fleet=phones", "privacy.epsilon=4")
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    text = " ".join(shown.split())
    rows = [line.split() for line in shown.splitlines() if line.startswith("phone_")]
    assert sum(int(row[1]) for row in rows) == 50
    assert all(row[5] == "3" for row in rows), "seconds of overhead"
    assert re.search(r"the rounds take \d+ min \d+ s \(\d+ an hour\)", text)
    assert "Of 50 clients asked in a round" in text
    (times,) = re.findall(r"The busiest client is asked (\d+) times", text)
    assert 24 <= int(times) < 40


def test_where_the_cohort_is_a_secret_it_does_not_say_who_is_busiest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = ("privacy=client", "federation.sampling=bernoulli", "federation.fraction=0.5")
    known = ("privacy.expected_examples=20", "privacy.client.accountant=rdp")
    shown = printed(capsys, *FAST, "dataset=digits", "fleet=phones", *client, *known)
    assert "Of 25 clients asked in a round" in " ".join(shown.split())
    assert "busiest" not in shown
