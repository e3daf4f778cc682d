import inspect
import shutil
import ssl
import subprocess

import httpcore
import httpx
import pytest

from llm_engineering.adapters.http_transport import ENGINE_ERRORS, Deadline, GuardedTransport, as_fetch_error
from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.adapters.network_guard import NetworkGuard
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.errors import FetchFailed, FetchRefused
from tests.doubles.web import LocalSite


def errors_of(module):
    kinds = (getattr(module, name) for name in module.__all__)
    return [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    "kind",
    [*errors_of(httpx), *errors_of(httpcore), OSError, TimeoutError, ConnectionResetError, ssl.SSLError, UnicodeError],
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_error_of_the_engines_becomes_one_of_ours(kind):
    error = kind.__new__(kind)
    assert isinstance(error, ENGINE_ERRORS)
    ours = as_fetch_error(error, "https://example.org/")
    assert isinstance(ours, FetchFailed | FetchRefused)
    assert ours.reason.replace("-", "").isalpha() and "https://example.org/" in str(ours)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectTimeout("x"), "timeout"),
        (httpcore.ReadTimeout(), "timeout"),
        (httpcore.ReadError(), "connection"),
        (httpx.RemoteProtocolError("x"), "protocol"),
        (httpx.InvalidURL("x"), "bad-url"),
        (httpx.DecodingError("x"), "content-encoding"),
    ],
)
def test_reasons_are_stable_words(error, reason):
    assert as_fetch_error(error, "https://example.org/").reason == reason


def test_a_certificate_error_is_told_from_a_lost_connection():
    error = httpcore.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError("certificate verify failed")
    assert as_fetch_error(error, "https://example.org/").reason == "tls"


def test_local_sockets_are_out_of_reach():
    transport = GuardedTransport(NetworkGuard(), deadline=Deadline())
    with pytest.raises(FetchRefused):
        transport._pool._network_backend.connect_unix_socket("/var/run/docker.sock")
    transport.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for twin.example alone, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=twin.example -addext subjectAltName=DNS:twin.example"
    subprocess.run(
        [*command.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True
    )
    return folder


@pytest.fixture
def secure_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with LocalSite({"/": "hello"}, tls=context) as site:
        yield site


def fetch(site, host, certificate):
    tls = ssl.create_default_context(cafile=certificate / "cert.pem")
    config = CrawlConfig(timeout=5, retries=0, delay=0)
    with HttpxFetcher(config, allow_private=("127.0.0.1/32",), resolver=lambda h, p: ["127.0.0.1"], tls=tls) as fetcher:
        return fetcher.fetch(f"https://{host}:{site.port}/")


def test_the_certificate_must_be_the_names_not_the_addresss(secure_site, certificate):
    assert fetch(secure_site, "twin.example", certificate).content == b"hello"
    assert secure_site.requests[-1].headers["host"] == f"twin.example:{secure_site.port}"
    with pytest.raises(FetchFailed) as failure:
        fetch(secure_site, "other.example", certificate)
    assert failure.value.reason == "tls"
