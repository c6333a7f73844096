"""fedlite serve: offer a run's teacher over HTTP to unsure students.

usage: fedlite serve DIR [token_file=FILE] [cert=FILE key=FILE] [host=H]
                     [port=N] [rows=N] [rate=N] [threads=N]

  DIR              a finished run: its models/teacher.onnx answers
  token_file=FILE  the secret word that devices must bear, readable by you
                   alone; else it is taken from FEDLITE_TOKEN
  cert=, key=      PEM files for TLS: certificate (chain) and private key
  host=H, port=N   where to listen (default: 127.0.0.1, 8443); another host than
                   this machine asks for TLS
  rows=N           inputs of one request, at most (default: 256)
  rate=N           inputs a minute, of all devices together (default: 6000)
  threads=N        of the model (default: 1)

Devices ask with `fedlite predict DIR INPUT ask=URL`; what they ask leaves them
as it is (docs/cascade.md). No input is kept or logged. GET /healthz says that
it is there, GET /metrics (with the token) what it did. Ctrl-C ends it.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fedlite.base.class_folders import one_run
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, user_path
from fedlite.cli.go_on import command_to_go_on
from fedlite.cli.parse import Arguments

if TYPE_CHECKING:
    from fedlite.serve.server import Certificate

WORDS = ("token_file", "cert", "key", "host")
NUMBERS = {"port": 8443, "rows": 256, "rate": 6000, "threads": 1}
HIGHEST = {"port": 65535, "rows": 65536, "rate": 10**9, "threads": 256}


def run(arguments: Arguments) -> int:
    """Serve until Ctrl-C."""
    from fedlite.serve.limits import Limits
    from fedlite.serve.predict import class_names
    from fedlite.serve.runtime import open_runtime
    from fedlite.serve.server import LOOPBACK, ServedModel, build_app, listen, run_server
    from fedlite.serve.token import read_token

    arguments.refuse_flags()
    taken = arguments.take(*WORDS, *NUMBERS)
    numbers = {name: _number(name, taken.get(name), usual) for name, usual in NUMBERS.items()}
    directory = one_run(arguments.need_directory())
    arguments.refuse_options((*WORDS, *NUMBERS))
    host = taken.get("host", "127.0.0.1")
    certificate = _certificate(taken)
    if certificate is None and host not in LOOPBACK:
        raise UsageError(f"host={host}: inputs would travel in the clear; give cert=FILE key=FILE")
    path = directory / "models" / "teacher.onnx"
    if not path.is_file():
        raise UsageError(
            f"run.dir={directory}: holds no models/teacher.onnx; finish the run with:"
            f" {command_to_go_on('simulate', [], directory)}"
        )
    token = read_token(user_path(taken["token_file"]) if "token_file" in taken else None)
    model = ServedModel(
        open_runtime(path, numbers["threads"]),
        class_names(directory / "deploy"),
        _temperature(directory),
    )
    limits = Limits(max_rows=numbers["rows"], rows_per_minute=numbers["rate"])
    app = build_app(model, token, limits)
    listening = listen(host, numbers["port"])
    scheme = "http" if certificate is None else "https"
    shown = f"[{host}]" if ":" in host else host
    print(f"teacher  {path}")
    print(f"ask      {scheme}://{shown}:{listening.getsockname()[1]}", flush=True)
    with suppress(KeyboardInterrupt):  # the way to end it
        run_server(app, listening, certificate, limits.at_once)
    print("stopped")
    return 0


def _number(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    least = 0 if name == "port" else 1
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= HIGHEST[name]:
        raise UsageError(f"{name}={text}: must be a whole number from {least} to {HIGHEST[name]}")
    return int(text)


def _certificate(taken: dict[str, str]) -> "Certificate | None":
    from fedlite.serve.server import Certificate

    if ("cert" in taken) != ("key" in taken):
        missing = "key" if "cert" in taken else "cert"
        raise UsageError(f"{missing}: missing; TLS takes cert=FILE and key=FILE together")
    if "cert" not in taken:
        return None
    certificate = Certificate(user_path(taken["cert"]), user_path(taken["key"]))
    certificate.check()
    return certificate


def _temperature(directory: Path) -> float:
    """That of the teacher's probabilities, as the report has it; 1 in runs of before."""
    path = directory / "report.json"
    try:
        quality = read_json(path).get("quality", {}) if path.is_file() else {}
        return float(quality["teacher.onnx"]["temperature"]) if quality else 1.0
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: damaged; write it anew with `fedlite report`") from error
