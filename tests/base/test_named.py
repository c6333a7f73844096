"""Things by name: found without an import, by module or path; one line where there is none."""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedlite
from fedlite.base.errors import UsageError
from fedlite.base.named import Named, import_path
from fedlite.base.options import options_of
from fedlite.federation.sum_protocol import SUMS
from fedlite.runs.config import Config
from fedlite.serve.runtime import RUNTIMES

OF_OPTIONS = {option.key: option.named for option in options_of(Config) if option.named}
KINDS = {**OF_OPTIONS, "sums": SUMS, "runtimes": RUNTIMES}
LOSSES = KINDS["distill.loss"]
CLOSED = Named("thing", "fedlite.distill.losses", "build", open=False)
NAMES = "attention, decoupled, hard, hints, relational, relations, soft"
EVERY = [(kind, name) for kind, named in KINDS.items() for name in named.names()]


def refused(named: Named, name: str) -> str:
    with pytest.raises(UsageError) as caught:
        named.find(name)
    (line,) = str(caught.value).splitlines()
    return line


def test_every_kind_of_thing_is_here() -> None:
    assert {
        "dataset.source",
        "partition.name",
        "distill.loss",
        "federation.strategy.name",
        "compress.formats",
        "search_student.blocks",
        "tracking.tracker",
    } == set(OF_OPTIONS)


@pytest.mark.parametrize("kind", OF_OPTIONS)
def test_a_kind_says_the_option_that_names_it(kind: str) -> None:
    assert OF_OPTIONS[kind].option == kind


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_the_modules_of_the_package(kind: str) -> None:
    package = importlib.import_module(KINDS[kind].package)
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    assert list(KINDS[kind].names()) == modules != []


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_name_is_found(kind: str, name: str) -> None:
    named = KINDS[kind]
    module = importlib.import_module(f"{named.package}.{name}")
    assert named.problem(name) == ""
    assert named.find(name) is getattr(module, named.attribute)


def test_names_and_problems_are_told_without_an_import() -> None:
    script = """
import json, sys
from fedlite.base.named import Named
named = Named("distill.loss", "fedlite.distill.losses", "build")
found = [named.names(), named.problem("soft"), named.problem("warm"), named.problem("no.such.x")]
imported = [name for name in sys.modules if name.startswith(("fedlite.distill", "torch"))]
print(json.dumps([*found, imported]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names, soft, warm, path, imported = json.loads(done.stdout)
    assert names == ["attention", "decoupled", "hard", "hints", "relational", "relations", "soft"]
    assert (soft, path, imported) == ("", "", [])
    assert warm.startswith(f"must be one of {NAMES}, or a path such as ")


def test_a_new_module_is_a_new_name_and_a_private_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "things"
    package.mkdir()
    for name in ("__init__", "_helper", "second", "first"):
        (package / f"{name}.py").write_text(f"THING = '{name}'\n")
    monkeypatch.setattr("fedlite.base.named.PACKAGE", tmp_path)
    monkeypatch.setattr(fedlite, "__path__", [str(tmp_path)])
    named = Named("thing", "fedlite.things", "THING", open=False)
    assert named.names() == ("first", "second")
    assert named.find("second") == "second"
    assert refused(named, "_helper") == "thing=_helper: must be one of first, second"


def test_a_path_to_an_attribute_is_found() -> None:
    assert LOSSES.find("json.dumps") is json.dumps
    assert import_path("pathlib.Path", "thing") is Path


def test_a_module_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "things_of_mine.py").write_text("def build(options): return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert LOSSES.find("things_of_mine.build")(None) == 7
    assert sys.path[-1] == str(tmp_path)  # after all that is installed


@pytest.mark.parametrize(
    ("named", "name", "line"),
    [
        (
            LOSSES,
            "warm",
            f"distill.loss=warm: must be one of {NAMES}, or a path such",
        ),
        (LOSSES, "", "distill.loss=: must be one of attention"),
        (LOSSES, "Soft", "distill.loss=Soft: must be one of attention"),
        (LOSSES, ".soft.", "distill.loss=.soft.: must be one of attention"),
        (LOSSES, ".losses.soft", "distill.loss=.losses.soft: give the full path, such as "),
        (LOSSES, "losses..soft", "distill.loss=losses..soft: give the full path, such as "),
        (LOSSES, "no.such.module", "distill.loss=no.such.module: cannot import: No module named"),
        (LOSSES, "json.nothing", "distill.loss=json.nothing: cannot import: module 'json' has no"),
        (
            CLOSED,
            "json.dumps",
            f"thing=json.dumps: must be one of {NAMES}",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_there_is_one_line(named: Named, name: str, line: str) -> None:
    assert refused(named, name).startswith(line)


def test_a_closed_kind_offers_no_path() -> None:
    assert refused(CLOSED, "warm").endswith(NAMES)


@given(st.text(alphabet="abc.", max_size=12).filter(lambda text: text not in LOSSES.names()))
def test_any_other_name_is_an_error_of_the_user(name: str) -> None:
    assert refused(LOSSES, name).startswith(f"distill.loss={name}: ")
