"""Rule 18: aggregate trust is an assumption; report, card and TensorBoard name it and its price."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlite.report import privacy_statement
from fedlite.report.privacy_statement import privacy_statement as statement

ASSUMPTION = "It is an assumption, not a protocol, that the server sees nothing but the sum"


def texts(folder: Path) -> str:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.endswith("text_summary")]
    values = [events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags]
    return "\n".join(values)


def check_assumption_is_named(text: str, local_epsilon: str) -> None:
    assert ASSUMPTION in text
    assert "Without that assumption" in text
    assert local_epsilon in text


def test_report_card_and_tensorboard_name_the_assumption_and_its_price(aggregate_run: Path) -> None:
    report = json.loads((aggregate_run / "report.json").read_text())
    (unit,) = report["privacy"]["units"]
    assert unit["trust"] == "aggregate"
    assert unit["local_epsilon_max"] > unit["epsilon_max"]
    assert unit["client_noise_multiplier"] < unit["noise_multiplier"]
    local = privacy_statement.epsilon_text(unit["local_epsilon_max"])
    check_assumption_is_named((aggregate_run / "report.md").read_text(), local)
    check_assumption_is_named((aggregate_run / "deploy" / "MODEL_CARD.md").read_text(), local)
    check_assumption_is_named(texts(aggregate_run), local)


def test_planted_a_report_that_hides_the_local_epsilon(aggregate_run: Path) -> None:
    privacy = json.loads((aggregate_run / "report.json").read_text())["privacy"]
    local = privacy_statement.epsilon_text(privacy["units"][0].pop("local_epsilon_max"))
    with pytest.raises(AssertionError):
        check_assumption_is_named(statement(privacy), local)


def test_planted_a_report_that_calls_the_sum_local(aggregate_run: Path) -> None:
    privacy = json.loads((aggregate_run / "report.json").read_text())["privacy"]
    local = privacy_statement.epsilon_text(privacy["units"][0]["local_epsilon_max"])
    privacy["units"][0]["trust"] = "local"
    with pytest.raises(AssertionError):
        check_assumption_is_named(statement(privacy), local)


def test_the_ledger_holds_what_one_client_alone_added(aggregate_run: Path) -> None:
    lines = (aggregate_run / "ledgers" / "clients.ledgers").read_text().splitlines()[1:]
    assert lines
    for line in lines:
        entry = json.loads(line)["entry"]
        assert entry["trust"] == "aggregate"
        assert 0 < entry["client_noise_multiplier"] < entry["noise_multiplier"]
