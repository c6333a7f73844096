"""``fedlite verify``: one line for each fault of a folder, and who signed it."""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedlite.base.errors import UsageError
from fedlite.cli.main import run
from fedlite.serve.signature import public_pem
from fedlite.serve.verify import checksums, verify_bundle
from tests.compress.bundles import ship
from tests.compress.conftest import Digits


def new_key(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a private and a public key."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}_public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(public_pem(key))
    return private, public


@pytest.fixture
def deploy(tmp_path: Path, student_path: Path, digits: Digits) -> Path:
    return ship(tmp_path / "deploy", student_path, digits).parent


@pytest.fixture
def signed(tmp_path: Path, student_path: Path, digits: Digits) -> tuple[Path, Path]:
    """A signed folder and the signer's public key, kept elsewhere."""
    private, public = new_key(tmp_path, "signer")
    return ship(tmp_path / "d", student_path, digits, signing_key=private).parent, public


def test_a_good_folder_exits_0_and_says_what_holds(deploy, capsys):
    assert run(["verify", str(deploy)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "5 files, all as SHA256SUMS and manifest.json say" in shown.out
    assert "not signed" in shown.out


def test_every_fault_is_one_line_and_exits_1(deploy, capsys):
    (deploy / "labels.json").unlink()
    (deploy / "student.onnx").write_bytes(b"other")
    (deploy / "extra").mkdir()
    (deploy / "extra" / "file").touch()
    assert run(["verify", str(deploy)]) == 1
    lines = capsys.readouterr().err.splitlines()
    faults = [line.removeprefix(f"fedlite: {deploy}: ") for line in lines]
    assert faults[:3] == [
        "extra/file: extra, SHA256SUMS does not know it",
        "labels.json: missing",
        "student.onnx: changed",
    ]
    assert faults[3].startswith("manifest.json: says student.onnx takes")
    assert len(faults) == 4


def test_a_link_is_a_fault_though_its_content_is_right(deploy, tmp_path):
    elsewhere = (deploy / "labels.json").rename(tmp_path / "labels.json")
    (deploy / "labels.json").symlink_to(elsewhere)
    assert verify_bundle(deploy).faults == ["labels.json: is not a plain file"]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "./labels.json", "labels.json"])
def test_a_sum_of_another_place_or_of_one_file_twice_is_a_fault(deploy, name):
    with (deploy / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'').hexdigest()}  {name}\n")
    assert any("line 6" in fault for fault in verify_bundle(deploy).faults)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entries: entries[0].update(bytes=1), "takes 1 bytes"),
        (lambda entries: entries[0].update(file="student.tflite"), "is not there"),
        (lambda entries: entries[0].update(file="../x"), "is not there"),
        (lambda entries: entries.clear(), "does not describe student.onnx"),
        (lambda entries: entries[0].pop("bytes"), "damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_a_fault_even_with_right_sums(deploy, change, words):
    entries = json.loads((deploy / "manifest.json").read_text())
    change(entries)
    (deploy / "manifest.json").write_text(json.dumps(entries))
    (deploy / "SHA256SUMS").write_text(checksums(deploy))
    faults = verify_bundle(deploy).faults
    assert faults
    assert words in " ".join(faults)


@pytest.mark.parametrize("name", ["labels.json", "preprocessing.json", "manifest.json"])
def test_a_file_that_is_needed_is_missed_though_the_sums_do_not_name_it(deploy, name):
    (deploy / name).unlink()
    (deploy / "SHA256SUMS").write_text(checksums(deploy))
    assert verify_bundle(deploy).faults == [f"{name}: missing"]


def test_the_key_inside_shows_integrity_and_the_signers_own_shows_origin(signed):
    deploy, public = signed
    alone, trusted = verify_bundle(deploy), verify_bundle(deploy, public)
    assert alone.faults == trusted.faults == []
    assert "not origin" in alone.holds[-1]
    assert trusted.holds[-1].startswith(f"signed by key={public}")


def test_a_folder_that_somebody_else_signed_anew_is_found_out(
    signed, tmp_path, student_path, digits: Digits
):
    deploy, public = signed
    stranger, _ = new_key(tmp_path, "stranger")
    ship(deploy, student_path, digits, statement="Trust me.", signing_key=stranger)
    assert verify_bundle(deploy).faults == []
    (fault,) = verify_bundle(deploy, public).faults
    assert fault == f"SHA256SUMS.sig: is no signature of SHA256SUMS by key={public}"


def test_sums_made_anew_do_not_hide_a_change_from_the_signature(signed):
    deploy, _ = signed
    (deploy / "labels.json").write_text("[]")
    (deploy / "SHA256SUMS").write_text(checksums(deploy))
    (fault,) = verify_bundle(deploy).faults
    assert "no signature of SHA256SUMS by the key in public_key.pem" in fault


def test_a_signature_that_was_taken_away_is_a_fault(signed, deploy):
    folder, public = signed
    (folder / "SHA256SUMS.sig").unlink()
    assert "though public_key.pem is there" in verify_bundle(folder).faults[0]
    assert "not signed" in verify_bundle(folder, public).faults[0]
    assert "not signed" in verify_bundle(deploy, public).faults[0]


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "b"], ["key="], ["--all"], ["nothing"], ["empty"], ["deploy", "key=none"]],
)
def test_wrong_usage_is_one_line_and_exits_2(arguments, deploy, capsys, monkeypatch):
    monkeypatch.chdir(deploy.parent)
    Path("empty").mkdir()
    assert run(["verify", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_no_such_folder_is_told(tmp_path):
    for path, words in {tmp_path / "none": "no such folder", tmp_path: "no SHA256SUMS"}.items():
        with pytest.raises(UsageError, match=words):
            verify_bundle(path)


def test_a_broken_key_inside_hides_no_other_fault(signed):
    folder, _ = signed
    (folder / "public_key.pem").write_text("no key")
    (folder / "student.onnx").write_bytes(b"other")
    faults = " ".join(verify_bundle(folder).faults)
    assert "student.onnx: changed" in faults
    assert "public_key.pem: holds no ed25519 public key" in faults


@pytest.mark.parametrize("text", ['[{"file": "student.onnx", "bytes": Infinity}]', "[" * 100_000])
def test_a_manifest_that_no_reader_expects_is_a_fault(text, deploy):
    (deploy / "manifest.json").write_text(text)
    faults = " ".join(verify_bundle(deploy).faults)
    assert "manifest.json: damaged" in faults
