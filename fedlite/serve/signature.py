"""Ed25519 signatures (RFC 8032) of a bundle's list of sums, through ``cryptography``; no torch."""

from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from fedlite.base.errors import UsageError

MAKE_KEY = "openssl genpkey -algorithm ed25519 -out FILE"


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file (PKCS #8, without a passphrase), as ``openssl`` makes it.

    Raises:
        UsageError: no such file, or no such key in it.
    """
    key: object = None
    try:
        with suppress(ValueError, UnsupportedAlgorithm):
            key = load_pem_private_key(_read(path, "compress.signing_key"), password=None)
    except TypeError as error:  # how the library says that a passphrase is missing
        raise UsageError(
            f"compress.signing_key={path}: is locked with a passphrase; give an unlocked key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"compress.signing_key={path}: holds no ed25519 private key in PEM form;"
            f" make one with `{MAKE_KEY}`"
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file.

    Raises:
        UsageError: no such file, or no such key in it.
    """
    key: object = None
    with suppress(ValueError, UnsupportedAlgorithm):
        key = load_pem_public_key(_read(path, "key"))
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"key={path}: holds no ed25519 public key in PEM form")
    return key


def public_pem(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """The public key as PEM; equal keys give equal bytes."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(text: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of ``text``: 64 bytes."""
    return key.sign(text)


def signature_holds(text: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    """Whether ``signature`` was made of ``text`` by the owner of ``key``."""
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option}={path}: cannot be read ({error.strerror})") from error
