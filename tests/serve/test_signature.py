"""Signing a folder with a key that openssl made, and checking it with openssl."""

import subprocess
from pathlib import Path

import pytest

from fedlite.base.errors import UsageError
from fedlite.serve.signature import (
    public_pem,
    read_public_key,
    read_signing_key,
    sign,
    signature_holds,
)
from tests.compress.bundles import ship


def openssl(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["openssl", *arguments], capture_output=True, check=False)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", str(path)).returncode == 0
    return path


@pytest.fixture
def public(key: Path) -> Path:
    path = key.with_name("public.pem")
    assert openssl("pkey", "-in", str(key), "-pubout", "-out", str(path)).returncode == 0
    return path


def test_the_public_key_is_the_one_of_openssl(key, public):
    assert public_pem(read_signing_key(key)) == public.read_bytes()


def test_a_signature_holds_for_its_text_and_key_alone(key, public, tmp_path):
    signature = sign(b"sums", read_signing_key(key))
    assert signature_holds(b"sums", signature, read_public_key(public))
    assert not signature_holds(b"sums.", signature, read_public_key(public))
    assert not signature_holds(b"sums", signature[:-1], read_public_key(public))
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
    assert not signature_holds(b"sums", signature, read_signing_key(key).public_key())


def test_openssl_accepts_the_signature_of_a_folder(key, public, tmp_path, student_path, digits):
    deploy = ship(tmp_path / "d", student_path, digits, signing_key=key).parent
    files = ("-in", f"{deploy}/SHA256SUMS", "-sigfile", f"{deploy}/SHA256SUMS.sig")
    check = ("pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin", *files)
    assert openssl(*check).returncode == 0
    assert (deploy / "public_key.pem").read_bytes() == public.read_bytes()
    assert "openssl pkeyutl" in (deploy / "MODEL_CARD.md").read_text()
    (deploy / "SHA256SUMS").write_bytes((deploy / "SHA256SUMS").read_bytes() + b"\n")
    assert openssl(*check).returncode != 0


def test_what_is_no_signing_key_is_told_in_one_line(key, public, tmp_path):
    locked, other = tmp_path / "locked.pem", tmp_path / "rsa.pem"
    openssl("pkey", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked))
    openssl("genpkey", "-algorithm", "rsa", "-out", str(other))
    cases = {
        tmp_path / "nothing.pem": "cannot be read",
        tmp_path: "cannot be read",
        locked: "passphrase",
        other: "no ed25519 private key",
        public: "no ed25519 private key",
    }
    for path, words in cases.items():
        with pytest.raises(UsageError, match=words) as caught:
            read_signing_key(path)
        assert str(caught.value).startswith(f"compress.signing_key={path}: ")
        assert "\n" not in str(caught.value)


def test_a_private_key_is_no_public_key(key, tmp_path):
    for path, words in {key: "no ed25519 public key", tmp_path / "none": "cannot be read"}.items():
        with pytest.raises(UsageError, match=words):
            read_public_key(path)
