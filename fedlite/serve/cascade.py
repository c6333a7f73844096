"""The device's half of a cascade: the student answers first, and asks a server where it is unsure.

What is asked leaves the device as it is. With a server that cannot be reached the student's answer
stands.
"""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from fedlite.base.calibration import Floats
from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.wire import ANSWERS, MEDIA_TYPE, MODEL, packed

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LARGEST_ANSWER = 64 * 1024**2  # bytes
BUSY = (408, 429)  # and all of 500 and above: the student's answer stands


class UnreachableError(FedliteError):
    """The server does not answer now; another time it may."""


class RemoteTeacher:
    """A teacher behind ``fedlite serve``.

    Args:
        url: ``https://HOST[:PORT]``; ``http://`` only on this machine, for the token would travel
            in the clear.
        token: that the server asks for.
        authority: PEM file of a certificate to trust besides none other; None trusts the system's.
        seconds: how long to wait for an answer.

    Raises:
        UsageError: no such address, or a certificate that cannot be read.
    """

    def __init__(
        self, url: str, token: str, *, authority: Path | None = None, seconds: float = 10.0
    ) -> None:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"ask={url}: not an address ({error})") from error
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise UsageError(f"ask={url}: not an address; give https://HOST:PORT")
        if parts.username is not None:
            raise UsageError(f"ask={url}: names a user; give the token by token_file=FILE")
        if parts.scheme == "http" and host not in LOOPBACK:
            raise UsageError(f"ask={url}: would send inputs and token in the clear; give https://")
        self.url, self._token = url, token
        self._prefix = parts.path.rstrip("/")
        if parts.scheme == "http":
            self._connection = http.client.HTTPConnection(host, port, timeout=seconds)
        else:
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=seconds, context=_trusting(authority)
            )
        self._described: dict[str, Any] = {}

    def ask(self, inputs: NDArray[Any], classes: list[str]) -> Floats:
        """Probabilities (n, classes) of normalised ``inputs`` (n, *input_shape).

        Args:
            inputs: as the student takes them.
            classes: that the student answers, in their order.

        Raises:
            UnreachableError: no answer, or the server is too busy for one.
            FedliteError: the server refuses the request, or answers something else.
        """
        if not self._described:
            self._described = self._model(inputs.shape[1:], classes)
        most, found = self._described["max_rows"], []
        for start in range(0, len(inputs), most):
            rows = inputs[start : start + most]
            answer = self._call("POST", ANSWERS, packed(rows, self._described["input_type"]))
            found.append(self._probabilities(answer, (len(rows), len(classes))))
        return np.concatenate(found)

    def _model(self, shape: tuple[int, ...], classes: list[str]) -> dict[str, Any]:
        """What the server says of its model, if it is a teacher of this student."""
        described = self._call("GET", MODEL)
        try:
            found = {
                "max_rows": max(1, int(described["max_rows"])),
                "input_type": str(described["input_type"]),
            }
            same = described["classes"] == classes and described["input_shape"] == list(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise FedliteError(f"{self.url}: is no server of fedlite serve") from error
        if not same:
            raise FedliteError(
                f"{self.url}: its model has other classes or inputs than this student; ask the"
                " teacher of the run that made it"
            )
        return found

    def _probabilities(self, answer: Any, shape: tuple[int, int]) -> Floats:
        try:
            found = np.asarray(answer["probabilities"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise FedliteError(f"{self.url}: answers no probabilities") from error
        if found.shape != shape or not np.allclose(found.sum(axis=1), 1, atol=1e-3):
            raise FedliteError(f"{self.url}: answers no probabilities of these classes")
        return found

    def _call(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": MEDIA_TYPE}
        try:
            self._connection.request(method, self._prefix + path, body, headers)
            response = self._connection.getresponse()
            content = response.read(LARGEST_ANSWER)
        except ssl.SSLCertVerificationError as error:
            raise FedliteError(
                f"{self.url}: its certificate is not trusted ({error.verify_message}); give its"
                " authority's by ca=FILE"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreachableError(f"{self.url}: no answer ({reason})") from error
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {}
        if response.status == 200:
            return answer
        self._connection.close()
        why = str(answer.get("error", response.reason)) if isinstance(answer, dict) else "?"
        kind = UnreachableError if response.status in BUSY or response.status >= 500 else None
        raise (kind or FedliteError)(f"{self.url}: {response.status}, {' '.join(why.split())}")


def _trusting(authority: Path | None) -> ssl.SSLContext:
    if authority is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise UsageError(f"ca={authority}: no certificate in PEM") from error


@dataclass
class Cascade:
    """A student that asks ``teacher`` below ``threshold``.

    ``asked`` counts the inputs that the teacher answered; ``trouble`` says why it is not asked any
    more: after the first time without an answer the student goes on alone.
    """

    teacher: RemoteTeacher
    threshold: float
    asked: int = 0
    trouble: str = field(default="", init=False)

    def improve(
        self, inputs: NDArray[Any], probabilities: Floats, classes: list[str]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """The student's probabilities with the teacher's where the student was unsure, and where
        that is.

        Args:
            inputs: (n, *input_shape), normalised.
            probabilities: (n, classes) of the student, calibrated.
            classes: their names.

        Raises:
            FedliteError: the server refuses, or is no teacher of this student.
        """
        unsure = probabilities.max(axis=1) < self.threshold
        if self.trouble or not unsure.any():
            return probabilities, np.zeros(len(inputs), dtype=bool)
        try:
            told = self.teacher.ask(inputs[unsure], classes)
        except UnreachableError as error:
            self.trouble = str(error)
            return probabilities, np.zeros(len(inputs), dtype=bool)
        self.asked += int(unsure.sum())
        improved = probabilities.copy()
        improved[unsure] = told
        return improved, unsure
