"""The teacher over HTTP, for students that are not sure: FastAPI and uvicorn, behind a token.

It logs no input and keeps none. ``/healthz`` is open; the rest asks for the token.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlite.base.calibration import probabilities_of
from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.kind import Runtime
from fedlite.serve.limits import Bucket, Limits
from fedlite.serve.metrics import Metrics
from fedlite.serve.token import is_bearer_of
from fedlite.serve.wire import ANSWERS, MODEL, row_bytes, unpacked

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServedModel:
    """A model that answers: ``classes`` in the order of its logits, which are divided by
    ``temperature`` before the softmax."""

    runtime: Runtime
    classes: list[str]
    temperature: float = 1.0


class _RefusedError(Exception):
    """A request that is not answered: the status and a line that says why."""

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.headers = status, headers or {}


def build_app(model: ServedModel, token: str, limits: Limits | None = None) -> "FastAPI":
    """The application: ``POST /v1/answers``, ``GET /v1/model``, ``/healthz`` and ``/metrics``.

    Refusals are JSON with an ``error``: 401 without the token, 413 over ``max_rows``, 400 of a body
    that is no rows, 408 of one that does not arrive, 429 (with ``Retry-After``) over the rate.

    Args:
        model: answers one request at a time.
        token: that requests must bear (:func:`fedlite.serve.token.read_token`).
        limits: None are the defaults.

    Raises:
        FedliteError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request, Response
        from fastapi.responses import JSONResponse, PlainTextResponse
    except ImportError as error:
        raise _not_installed(error) from error
    limits = limits or Limits()
    app = FastAPI(title="fedlite teacher", docs_url=None, redoc_url=None, openapi_url=None)
    metrics, turn = Metrics(), asyncio.Lock()
    bucket = Bucket(limits.rows_per_minute, time.monotonic())
    shape, input_type = model.runtime.input_shape, model.runtime.input_type
    size = row_bytes(shape, input_type)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Any]) -> Response:
        """Nothing is read of a request without the token."""
        try:
            header = request.headers.get("authorization", "")
            if request.url.path != "/healthz" and not is_bearer_of(header, token):
                bearer = {"WWW-Authenticate": "Bearer"}
                raise _RefusedError(401, "the token is missing or wrong", bearer)
            response: Response = await call_next(request)
        except _RefusedError as refused:
            response = JSONResponse(
                {"error": str(refused)}, refused.status, headers=refused.headers
            )
        metrics.request(response.status_code)
        return response

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def shown() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get(MODEL)
    async def described() -> dict[str, Any]:
        return {
            "classes": model.classes,
            "input_shape": list(shape),
            "input_type": input_type,
            "max_rows": limits.max_rows,
        }

    @app.post(ANSWERS)
    async def answers(request: Request) -> dict[str, list[list[float]]]:
        body = await _body_of(request, limits.max_rows * size, limits.seconds)
        rows, rest = divmod(len(body), size)
        if rest or not rows:
            raise _RefusedError(400, f"{len(body)} bytes are no rows of {size} bytes")
        try:
            inputs = unpacked(body, shape, input_type)
        except ValueError as error:
            raise _RefusedError(400, f"the body {error}") from error
        if wait := bucket.take(rows, time.monotonic()):
            raise _RefusedError(
                429, f"over {limits.rows_per_minute} rows a minute", {"Retry-After": str(wait)}
            )
        async with turn:
            start = time.perf_counter()
            logits = await asyncio.to_thread(model.runtime.run, inputs)
            metrics.answered(rows, time.perf_counter() - start)
        return {"probabilities": probabilities_of(logits, model.temperature).tolist()}

    return app


async def _body_of(request: "Request", most: int, seconds: float) -> bytes:
    """The body, no more of it than is taken; what says that it is longer is not read at all."""
    too_large = _RefusedError(413, f"the body is over {most} bytes", {"Connection": "close"})
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError as error:
        raise _RefusedError(408, f"the body did not arrive in {seconds:g} s") from error
    return bytes(body)


@dataclass(frozen=True)
class Certificate:
    """PEM files for TLS: the chain and its private key."""

    chain: Path
    key: Path

    def check(self) -> None:
        """Refuse files that are no certificate and key that belong together.

        Raises:
            UsageError: names them.
        """
        for name, path in (("cert", self.chain), ("key", self.key)):
            if not path.is_file():
                raise UsageError(f"{name}={path}: no such file; give a PEM file")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.chain, self.key, password=_no_password
            )
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cert={self.chain}, key={self.key}: no certificate with its key, both PEM,"
                " the key without a password"
            ) from error


def _no_password() -> str:
    raise ValueError("the key asks for a password")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        UsageError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()  # who comes before the server is ready waits
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"host={host} port={port}: cannot be listened at ({reason})") from error
    return made


def run_server(
    app: "FastAPI",
    listening: socket.socket,
    certificate: Certificate | None = None,
    at_once: int = Limits.at_once,
) -> None:
    """Serve until the process is told to stop.

    Args:
        app: of :func:`build_app`.
        listening: of :func:`listen`.
        certificate: None serves without TLS.
        at_once: requests beyond these are answered 503.

    Raises:
        FedliteError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise _not_installed(error) from error
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=at_once,
        timeout_graceful_shutdown=5,
        ssl_certfile=None if certificate is None else certificate.chain,
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )
    uvicorn.Server(config).run(sockets=[listening])


def _not_installed(error: ImportError) -> FedliteError:
    return FedliteError(
        f"fedlite serve needs {error.name}, which is not installed: pip install 'fedlite[serve]'"
    )
