"""Checking a deployable folder: sums, manifest and signature; light, never torch."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fedlite.base.class_folders import one_run
from fedlite.base.errors import UsageError
from fedlite.serve.runtime import size_of
from fedlite.serve.signature import public_pem, read_public_key, signature_holds

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
PUBLIC_KEY = "public_key.pem"
MANIFEST = "manifest.json"
REQUIRED = ("labels.json", "preprocessing.json", "MODEL_CARD.md", MANIFEST)

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Verdict:
    """What a check found: one line for each fault, and one for each thing that holds."""

    faults: list[str]
    holds: list[str]


def deploy_folder(directory: Path) -> Path:
    """The deployable folder of a run directory, or the directory itself if it is one.

    Raises:
        UsageError: the directory holds the runs of several classes of students.
    """
    inside = directory / "deploy"
    return inside if inside.is_dir() else one_run(directory)


def checksums(directory: Path) -> str:
    """The text of a ``SHA256SUMS`` file for all files below ``directory``, as ``sha256sum`` writes.

    The file itself and its signature are left out.
    """
    return "".join(
        f"{sha256(directory / name)}  {name}\n" for name in sorted(files_below(directory))
    )


def files_below(directory: Path) -> set[str]:
    """Relative names (with ``/``) of all files below ``directory`` that sums have to cover."""
    found = (p.relative_to(directory).as_posix() for p in directory.rglob("*") if not _folder(p))
    return {name for name in found if name not in (SUMS, SIGNATURE)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_bundle(directory: Path, key: Path | None = None) -> Verdict:
    """Check that a deployable folder is whole, is what its manifest says, and who signed it.

    Args:
        directory: a folder that :func:`fedlite.compress.bundle.write_bundle` made.
        key: the signer's public key (PEM), got elsewhere than from the folder. With it a folder
            without a signature by that key has a fault; without it a signature is checked against
            the key inside the folder, which proves nothing about the origin.

    Raises:
        UsageError: ``directory`` is no such folder, or ``key`` holds no public key.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such folder; expected DIR/deploy")
    trusted = None if key is None else read_public_key(key)
    if not (directory / SUMS).is_file():
        raise UsageError(f"{directory}: holds no {SUMS}; expected a deployable folder")
    text = (directory / SUMS).read_bytes()
    faults, holds = [*_check_sums(directory, text), *_check_manifest(directory)], []
    if not faults:
        holds.append(f"{len(files_below(directory))} files, all as {SUMS} and {MANIFEST} say")
    if not (directory / SIGNATURE).is_file():
        if trusted is not None:
            faults.append(f"{SIGNATURE}: missing; the folder is not signed")
        elif (directory / PUBLIC_KEY).exists():
            faults.append(f"{SIGNATURE}: missing, though {PUBLIC_KEY} is there")
        else:
            holds.append("not signed: the sums show damage, not who made the folder")
        return Verdict(faults, holds)
    if trusted is None and not (directory / PUBLIC_KEY).is_file():
        return Verdict([*faults, f"{PUBLIC_KEY}: missing; give key=FILE"], holds)
    try:
        used = trusted or read_public_key(directory / PUBLIC_KEY)
    except UsageError:
        return Verdict([*faults, f"{PUBLIC_KEY}: holds no ed25519 public key"], holds)
    if not signature_holds(text, (directory / SIGNATURE).read_bytes(), used):
        whose = f"the key in {PUBLIC_KEY}" if trusted is None else f"key={key}"
        faults.append(f"{SIGNATURE}: is no signature of {SUMS} by {whose}")
    elif trusted is None:
        holds.append(
            f"signed by the key inside the folder ({fingerprint(used)}): this shows integrity, not"
            " origin; give the signer's own key with key=FILE"
        )
    else:
        holds.append(f"signed by key={key} ({fingerprint(used)})")
    return Verdict(faults, holds)


def fingerprint(key: Any) -> str:
    """The first half of the SHA-256 of a key's public PEM: short enough to read to each other."""
    return hashlib.sha256(public_pem(key)).hexdigest()[:32]


def _folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_sums(directory: Path, text: bytes) -> list[str]:
    expected: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.decode("utf-8", errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not _inside(match[2]) or match[2] in expected:
            faults.append(f"{SUMS}: line {number} is not the sum of one more file of the folder")
        else:
            expected[match[2]] = match[1]
    present = files_below(directory)
    for name in sorted({*expected, *REQUIRED, *present}):
        path = directory / name
        if name not in present:
            faults.append(f"{name}: missing")
        elif name not in expected:
            faults.append(f"{name}: extra, {SUMS} does not know it")
        elif path.is_symlink() or not path.is_file():
            faults.append(f"{name}: is not a plain file")
        elif sha256(path) != expected[name]:
            faults.append(f"{name}: changed")
    return faults


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name


def _check_manifest(directory: Path) -> list[str]:
    """What the manifest says of each artefact against the folder; a missing manifest is no fault
    here, because the sums tell."""
    try:
        entries = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        described = {str(entry["file"]): int(entry["bytes"]) for entry in entries}
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError):
        return [f"{MANIFEST}: damaged; expected a list of files, each with its bytes"]
    faults = []
    for name, expected in described.items():
        path = directory / name
        if not _inside(name) or not path.exists():
            faults.append(f"{MANIFEST}: names {name}, which is not there")
        elif (found := size_of(path)) != expected:
            faults.append(f"{MANIFEST}: says {name} takes {expected} bytes; it takes {found}")
    for path in sorted(directory.glob("student.*")):
        if path.name not in described:
            faults.append(f"{MANIFEST}: does not describe {path.name}")
    return faults
