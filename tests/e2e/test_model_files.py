"""``student=FILE`` and ``teacher=FILE``: a model described by a file of one's own."""

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fedlite.cli.main import run
from fedlite.runs.compose import compose_config, expand_files

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=8)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(kwargs=st.dictionaries(NAMES, VALUES, max_size=3))
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(kwargs={"a": "\\", "b": "it's", "c": "\\'", "d": "x\\\\'\\y", "e": [{"f": ""}]})
def test_what_a_file_says_is_what_is_built(kwargs: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(yaml.safe_dump({"name": "winner", "module": "a.b.C", "kwargs": kwargs}))
    parsed = OverridesParser.create().parse_overrides(expand_files([f"student={path}"]))
    found = {override.key_or_group: override.value() for override in parsed}
    expected = {f"student.kwargs.{name}": value for name, value in kwargs.items()}
    assert found == {
        "student": "custom",
        "student.name": "winner",
        "student.module": "a.b.C",
        **expected,
    }


def test_options_after_the_file_win(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text("name: winner\nmodule: fedlite.models.mlp.MLP\nkwargs: {hidden: [8]}\n")
    teacher = compose_config(
        [f"teacher={path}", "teacher.kwargs.hidden=[16]", "teacher.epochs=3", "run.dir=unused"]
    ).teacher
    assert (teacher.kwargs, teacher.epochs) == ({"hidden": [16]}, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("a: [", "is not YAML"),
        ("- 1", "must hold name, module and kwargs"),
        ("name: a", "must hold name, module and kwargs"),
        ("{name: a, module: b, widths: 3}", "must hold name, module and kwargs"),
        ("{name: a, module: b, kwargs: [1]}", "kwargs must be a mapping"),
    ],
)
def test_other_files_are_refused_in_one_line(
    text: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.yaml"
    if text is not None:
        path.write_text(text)
    assert run(["simulate", f"student={path}", f"run.dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"fedlite: student={path}: ")
    assert reason in line
    assert not (tmp_path / "run").exists()
