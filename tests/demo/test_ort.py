"""The page's runtime: only the pinned package is taken, and its absence is told."""

import os
import tarfile
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.demo.ort import FILES, PACKAGE, cached_ort, given_ort

OTHER_PACKAGE = """\
#!/bin/sh
cp {archive} "$5"
"""
FAILS = """\
#!/bin/sh
echo "npm warn something" >&2
echo "npm error network request failed" >&2
exit 1
"""


def npm_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for npm first on the path."""
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(does)
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_another_package_than_the_pinned_one_is_not_kept(tmp_path, monkeypatch):
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as package:
        package.add(__file__, "package/dist/ort.wasm.bundle.min.mjs")
    npm_that(OTHER_PACKAGE.format(archive=archive), tmp_path / "bin", monkeypatch)
    with pytest.raises(FedliteError, match="not the pinned package"):
        cached_ort(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_registry_that_cannot_be_reached_is_told_in_one_line(tmp_path, monkeypatch):
    npm_that(FAILS, tmp_path / "bin", monkeypatch)
    with pytest.raises(FedliteError, match="network request failed") as caught:
        cached_ort(tmp_path / "cache")
    assert "ort=DIR" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FedliteError, match=r"install Node\.js, or give ort=DIR"):
        cached_ort(tmp_path / "cache")


def test_what_lies_in_the_cache_is_not_fetched_again(ort, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cached_ort(ort.parent) == ort


def test_an_unpacked_package_is_found_and_a_changed_one_refused(ort, tmp_path):
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in FILES:
        (dist / name).write_bytes((ort / name).read_bytes())
    for given in (tmp_path, tmp_path / "package", dist):
        assert given_ort(given) == dist
    (dist / "ort.wasm.bundle.min.mjs").write_text("other")
    with pytest.raises(UsageError, match=PACKAGE):
        given_ort(tmp_path)
