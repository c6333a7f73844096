"""A teacher over HTTP and the student that asks it: real uvicorn, real sockets, real TLS."""

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.cascade import Cascade, RemoteTeacher, UnreachableError
from fedlite.serve.limits import Bucket, Limits
from fedlite.serve.server import Certificate, ServedModel, build_app, listen
from fedlite.serve.token import read_token
from fedlite.serve.wire import ANSWERS, MODEL, packed

TOKEN = "a-token-of-the-tests-alone"
CLASSES = ["a", "b", "c"]
SHAPE = (1, 2, 2)


class Sums:
    """A model that answers from the sum of an input: class 0, 1 or 2."""

    name, input_shape, batch_size, value_type = "sums", SHAPE, None, "float32"
    input_type = "float32"

    def run(self, batch: np.ndarray) -> np.ndarray:
        place = np.clip(batch.reshape(len(batch), -1).sum(axis=1).astype(int), 0, 2)
        return 5 * np.eye(3, dtype=np.float32)[place]


@contextmanager
def served(limits: Limits | None = None, certificate: Certificate | None = None) -> Iterator[int]:
    """The port of a server that answers in a thread."""
    app = build_app(ServedModel(Sums(), CLASSES), TOKEN, limits)
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        log_level="critical",
        lifespan="off",
        ssl_certfile=certificate and str(certificate.chain),
        ssl_keyfile=certificate and str(certificate.key),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(Limits(max_rows=4, rows_per_minute=10_000, seconds=0.2)) as found:
        yield found


def inputs(*sums: float) -> np.ndarray:
    return np.array([np.full(SHAPE, one / 4) for one in sums], dtype=np.float32)


def call(
    port: int, method: str, path: str, body: bytes | None = None, token: str | None = TOKEN
) -> tuple[int, str, http.client.HTTPMessage]:
    """Status, text and headers of a plain request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    found = response.status, response.read().decode(), response.headers
    connection.close()
    return found


# --- the server -----------------------------------------------------------------------------


def test_only_health_is_told_without_the_token(port: int) -> None:
    assert call(port, "GET", "/healthz", token=None)[:2] == (200, '{"status":"ok"}')
    body = packed(inputs(1), "float32")
    for method, path in (("GET", "/metrics"), ("GET", MODEL), ("POST", ANSWERS), ("GET", "/docs")):
        for token in (None, "", TOKEN[:-1], f"{TOKEN}x", "wrong"):
            status, text, headers = call(port, method, path, body, token)
            assert status == 401, (path, token)
            assert json.loads(text) == {"error": "the token is missing or wrong"}
            assert headers["WWW-Authenticate"] == "Bearer"


def test_rows_are_answered_with_probabilities(port: int) -> None:
    status, text, _ = call(port, "POST", ANSWERS, packed(inputs(0, 2, 1), "float32"))
    shares = np.array(json.loads(text)["probabilities"])
    assert status == 200
    assert shares.argmax(axis=1).tolist() == [0, 2, 1]
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "0 bytes are no rows"),
        (b"12345", 400, "5 bytes are no rows of 16 bytes"),
        (packed(inputs(float("nan")), "float32"), 400, "not finite"),
        (b"x" * 65, 413, "over 64 bytes"),
    ],
)
def test_what_is_no_row_or_too_much_is_refused(
    port: int, body: bytes, status: int, words: str
) -> None:
    found, text, _ = call(port, "POST", ANSWERS, body)
    assert (found, words in json.loads(text)["error"]) == (status, True)


def test_a_body_without_a_length_is_cut_off_and_a_slow_one_given_up(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", ANSWERS)
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"50\r\n" + b"x" * 80 + b"\r\n")
    assert connection.getresponse().status == 413
    connection.close()
    connection.putrequest("POST", ANSWERS)
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", "16")
    connection.endheaders()
    assert connection.getresponse().status == 408
    connection.close()


def test_the_rate_is_kept_and_metrics_count() -> None:
    with served(Limits(max_rows=4, rows_per_minute=5)) as port:
        body = packed(inputs(1, 1, 1, 1), "float32")
        assert call(port, "POST", ANSWERS, body)[0] == 200
        status, text, headers = call(port, "POST", ANSWERS, body)
        assert (status, "over 5 rows a minute" in text) == (429, True)
        assert 0 < int(headers["Retry-After"]) <= 60
        call(port, "POST", ANSWERS, body, token=None)
        metrics = call(port, "GET", "/metrics")[1]
    for line in (
        'fedlite_requests_total{status="200"} 1',
        'fedlite_requests_total{status="401"} 1',
        'fedlite_requests_total{status="429"} 1',
        "fedlite_rows_total 4",
        'fedlite_answer_seconds_bucket{le="+Inf"} 1',
        "fedlite_answer_seconds_count 1",
    ):
        assert line in metrics.splitlines()


def test_a_bucket_fills_again() -> None:
    bucket = Bucket(60, now=0.0)
    assert bucket.take(60, now=0.0) == 0
    assert bucket.take(5, now=1.0) == 4
    assert bucket.take(5, now=5.0) == 0
    assert bucket.take(60, now=1000.0) == 0


def test_a_port_that_is_taken_is_one_line(port: int) -> None:
    with pytest.raises(UsageError, match=f"port={port}: cannot be listened at"):
        listen("127.0.0.1", port)


# --- the client -----------------------------------------------------------------------------


def teacher_at(port: int, **more: object) -> RemoteTeacher:
    return RemoteTeacher(f"http://127.0.0.1:{port}", TOKEN, seconds=5, **more)


def test_only_what_the_student_is_unsure_of_is_sent(port: int) -> None:
    cascade = Cascade(teacher_at(port), threshold=0.8)
    own = np.array([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.0, 0.8], [0.4, 0.3, 0.3]])
    found, told = cascade.improve(inputs(2, 2, 0, 1), own, CLASSES)
    assert told.tolist() == [False, True, False, True]
    assert found.argmax(axis=1).tolist() == [0, 2, 2, 1]
    np.testing.assert_array_equal(found[[0, 2]], own[[0, 2]])
    assert (cascade.asked, cascade.trouble) == (2, "")


def test_more_rows_than_a_request_takes_are_several_requests(port: int) -> None:
    found = teacher_at(port).ask(inputs(*(number % 3 for number in range(11))), CLASSES)
    assert found.argmax(axis=1).tolist() == [number % 3 for number in range(11)]


def test_a_student_goes_on_alone_when_the_server_is_gone() -> None:
    with served() as gone:
        teacher = teacher_at(gone)
        teacher.ask(inputs(1), CLASSES)
    cascade = Cascade(teacher, threshold=0.8)
    own = np.array([[0.5, 0.3, 0.2]])
    for _ in range(2):
        found, told = cascade.improve(inputs(1), own, CLASSES)
        assert (found.tolist(), told.tolist()) == (own.tolist(), [False])
    assert f"http://127.0.0.1:{gone}: no answer" in cascade.trouble
    assert cascade.asked == 0


def test_a_busy_server_is_as_good_as_none() -> None:
    with (
        served(Limits(rows_per_minute=1)) as port,
        pytest.raises(UnreachableError, match="429, over 1 rows a minute"),
    ):
        teacher_at(port).ask(inputs(1, 1), CLASSES)


def test_a_wrong_token_and_another_model_are_failures(port: int) -> None:
    wrong = RemoteTeacher(f"http://127.0.0.1:{port}", f"{TOKEN}-wrong", seconds=5)
    cascade = Cascade(wrong, threshold=0.8)
    with pytest.raises(FedliteError, match="401, the token is missing or wrong"):
        cascade.improve(inputs(1), np.array([[0.5, 0.3, 0.2]]), CLASSES)
    with pytest.raises(FedliteError, match="other classes or inputs"):
        teacher_at(port).ask(inputs(1), ["a", "b", "d"])
    with pytest.raises(FedliteError, match="other classes or inputs"):
        teacher_at(port).ask(np.zeros((1, 4), np.float32), CLASSES)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("teacher.example", "not an address"),
        ("ftp://teacher.example", "not an address"),
        ("https://", "not an address"),
        ("https://teacher.example:port", "not an address"),
        ("https://user:secret@teacher.example", "names a user"),
        ("http://teacher.example", "in the clear; give https://"),
    ],
)
def test_an_address_that_will_not_do_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RemoteTeacher(url, TOKEN)


# --- TLS and the token ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One of our own making, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "teacher")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / "cert.pem", folder / "key.pem")
    found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


def test_tls_is_spoken_with_those_who_trust_it(certificate: Certificate) -> None:
    certificate.check()
    with served(certificate=certificate) as port:
        url = f"https://127.0.0.1:{port}"
        teacher = RemoteTeacher(url, TOKEN, authority=certificate.chain)
        assert teacher.ask(inputs(2), CLASSES).argmax() == 2
        with pytest.raises(FedliteError, match=r"not trusted .*; give its authority's by ca=FILE"):
            RemoteTeacher(url, TOKEN).ask(inputs(2), CLASSES)
        with pytest.raises(UnreachableError):  # plain words to a server of TLS
            teacher_at(port).ask(inputs(2), CLASSES)
        context = ssl.create_default_context(cafile=certificate.chain)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011 - whatever OpenSSL calls it
            http.client.HTTPSConnection("127.0.0.1", port, context=context).connect()


def test_files_that_are_no_certificate_are_one_line(
    certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "text.pem").write_text("hello")
    for chain, key, words in (
        (tmp_path / "none.pem", certificate.key, "cert=.*no such file"),
        (certificate.chain, tmp_path / "text.pem", "no certificate with its key"),
    ):
        with pytest.raises(UsageError, match=words):
            Certificate(chain, key).check()
    with pytest.raises(UsageError, match="no certificate in PEM"):
        RemoteTeacher("https://localhost", TOKEN, authority=tmp_path / "text.pem")


@pytest.fixture
def token_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "token"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_a_token_comes_from_a_file_or_the_environment(
    token_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_token(token_file(f"{TOKEN}\n")) == TOKEN
    monkeypatch.setenv("FEDLITE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    monkeypatch.delenv("FEDLITE_TOKEN")
    with pytest.raises(UsageError, match="give token_file=FILE, or the token in FEDLITE_TOKEN"):
        read_token(None)


def test_a_token_that_others_can_read_or_guess_is_refused(
    token_file: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="others may read it"):
        read_token(token_file(TOKEN, 0o644))
    for text in ("short", "", "two words of one token", "ümlaut-in-the-token-here"):
        with pytest.raises(UsageError, match="token_file="):
            read_token(token_file(text))
    with pytest.raises(UsageError, match="no such file"):
        read_token(tmp_path / "none")
