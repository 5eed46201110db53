"""Malformed requests to every endpoint cause no server error, no traceback, and few log lines."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.web.http_server import HEADERS
from stream_app.web.request_limit import LOG_INTERVAL_S
from tests.helpers.services.page_servers import Servers, ask, request, running_servers, send

WORKER = ("/livez", "/readyz", "/metrics")
DASHBOARD = (
    "/", "/livez", "/signin", "/me", "/metrics", "/state", "/drift?window=1%20h", "/feature?name=monto&window=1%20h",
    "/models/1/report.pdf", "/models/1/approve", "/models/1/reject", "/signout", "/static/app.js", "/nowhere",
)  # fmt: skip
SEED = 20261127
ODD_HEADERS: dict[str, dict[str, str | bytes]] = {
    "bytes in a token": {"Authorization": b"Bearer \xff"},
    "no token": {"Authorization": "Bearer"},
    "a token of blanks": {"Authorization": "Bearer    "},
    "another scheme": {"Authorization": b"Basic \xff\xfe:"},
    "a long token": {"Authorization": "Bearer " + "x" * 8000},
    "an open bracket": {"Origin": "http://["},
    "a port that is none": {"Origin": "http://localhost:99999999"},
    "bytes in the origin": {"Origin": b"http://\xff\xfe"},
    "no origin": {"Origin": "null"},
    "a host of bytes": {"Host": b"\xff\xfe"},
    "a bracket as host": {"Host": "["},
    "a host of nothing": {"Host": ""},
    "two hosts in one": {"Host": "localhost, evil.example"},
    "a host with a path": {"Host": "localhost/@evil.example:80"},
    "a host with a large port": {"Host": "localhost:999999999999"},
    "a long host": {"Host": "a" * 5000},
    "cookies of bytes": {"Cookie": b'tamiz-session=\xff; \x01=; ;;;="'},
    "a cookie without end": {"Cookie": 'tamiz-session="' + "x" * 4000},
    "many cookies": {"Cookie": "; ".join(f"c{i}={i}" for i in range(800))},
    "a huge header": {"X-Huge": "x" * 70_000},
    "forwarded nonsense": {"X-Forwarded-For": b"\xff, 999.1.1.1, [::, 1.2.3.4:5", "X-Forwarded-Proto": b"\xff,,https"},
    "an odd charset": {"Content-Type": "application/x-www-form-urlencoded; charset=nonsense"},
    "multipart without boundary": {"Content-Type": "multipart/form-data"},
    "multipart of bytes": {"Content-Type": b"multipart/form-data; boundary=\xff"},
    "a type of bytes": {"Content-Type": b"\xff/\xfe; charset=\xff"},
    "compressed by name only": {"Content-Encoding": "gzip"},
    "an encoding that is none": {"Content-Encoding": "nonsense"},
    "no length": {"Content-Length": "x"},
    "a negative length": {"Content-Length": "-1"},
    "a length beyond all": {"Content-Length": "99999999999999999999"},
    "two lengths": {"Content-Length": "1, 2"},
    "chunked and a length": {"Transfer-Encoding": "chunked"},
    "an odd transfer": {"Transfer-Encoding": "gzip, nonsense"},
    "an expectation": {"Expect": "the unexpected"},
    "to continue": {"Expect": "100-continue"},
    "an upgrade": {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"},
    "an upgrade to h2c": {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"},
    "ranges": {"Range": "bytes=-1,99999999999999999999-x"},
    "a date that is none": {"If-Modified-Since": "Thu, 99 Foo 0000 99:99:99", "If-None-Match": b'\xff"'},
}
ODD_TARGETS = (
    "/%", "/%zz", "/%00", "/%ff%fe", "/static/%00", "/static/../server.py", "/static/%2e%2e/server.py",
    "/static/..%2f..%2fserver.py", "/static/%ff", "/static/" + "a" * 3000, "//", "//evil.example/",
    "/static//etc/passwd",
    "/models/999999999/approve", "/models/-1/approve", "/models/1e9/approve", "/models/%D9%A3/approve",
    "/models/99999999999999/report.pdf", "/drift?window=%ff", "/drift?window=%zz&window", "/drift?" + "a=1&" * 1500,
    "/feature?name=%00&window=1%20h", "/feature?name=" + "x" * 6000, "/feature?name=%ff&window=1 h", "/state?%ff=%ff",
    "/me;%ff", "http://evil.example/", "http://[/", "*", "localhost:80", "/signin?" + "%" * 200, "/?a=" + "%u0041" * 50,
)  # fmt: skip
POSTED = b"POST /signin HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
ODD_LINES = (
    b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.x\r\nHost: localhost\r\n\r\n",
    b"GET / FTP/1.1\r\n\r\n",
    b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", b"GET / HTTP/1.1\nHost: localhost\n\n",
    POSTED + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n",
    POSTED + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    POSTED + b"Content-Length: 100\r\n\r\ntoken=",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(2000)) + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
)  # fmt: skip
ODD_FORMS = (
    b"", b"token", b"token=%ff", b"token=\xff\xfe", b"=&=&=", b"&" * 500, b"a=1&" * 3000, b"token=" + b"x" * 16_300,
    b"token=" + b"x" * 200_000, b"token=%00%0a", b"reason=%0a%0d%00%1b[2J", b"reason=" + b"x" * 600,
    b"\x1f\x8b\x08\x00junk",
)  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["with users", "on loopback without"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("pages"), authentication=request.param) as running:
        yield running


def cases(servers: Servers, token: str | None) -> Iterator[tuple[int, bytes]]:
    """Odd requests, to every endpoint of both servers; with the token where they have none of their own."""
    own: dict[str, str | bytes] = {"Origin": "http://localhost"}
    if token:
        own["Authorization"] = f"Bearer {token}"
    for port, paths in ((servers.worker, WORKER), (servers.dashboard, DASHBOARD)):
        for path in paths:
            for headers in ODD_HEADERS.values():
                yield port, request("GET", path, own | headers)
                yield port, request("POST", path, own | headers, b"token=x&reason=r")
            for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
                yield port, request(method, path, own)
            for form in ODD_FORMS:
                yield port, request("POST", path, own, form)
        for target in ODD_TARGETS:
            yield port, request("GET", target, own)
            yield port, request("POST", target, own, b"reason=r")
        for line in ODD_LINES:
            yield port, line
    rng = random.Random(SEED)
    for _ in range(400):
        raw = bytearray(request(rng.choice(["GET", "POST"]), rng.choice(DASHBOARD), own, b"token=x&reason=r"))
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        yield rng.choice([servers.worker, servers.dashboard]), bytes(raw)


def test_no_request_causes_an_internal_error_or_fills_the_log(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tokens = [None, servers.tokens["ana"]] if servers.tokens else [None]
    sent, answered, faults = 0, 0, []
    for token in tokens:
        for port, raw in cases(servers, token):
            answer = send(port, raw, idle_s=0.1)
            sent, answered = sent + 1, answered + bool(answer.status)
            if answer.status >= 500 or b"Traceback" in answer.body or b'File "' in answer.body:
                faults.append((raw[:300], answer))
    assert faults == []
    assert (sent > 1_000, answered > 0.9 * sent) == (True, True)
    for port in (servers.worker, servers.dashboard):
        assert ask(port, "GET", "/livez").status == 200
    lines = [r for r in caplog.records if r.name.split(".")[-1] in ("http", "auth", "asyncio", "server", "web")]
    assert [r.getMessage() for r in lines if r.exc_info] == []
    kinds = 5  # loggers of two servers, each one line in LOG_INTERVAL_S
    assert len(lines) <= kinds * (1 + (lines[-1].created - lines[0].created) / LOG_INTERVAL_S)
    shown = " ".join(r.getMessage() for r in lines) + " ".join(servers.tokens)
    assert [t for t in servers.tokens.values() if t in shown] == []


@pytest.mark.parametrize("path", ["/", "/state", "/nowhere", "/livez", "/signin", "/static/app.js", "/static/nothing"])
def test_every_answer_has_the_security_headers_and_names_no_version(servers: Servers, path: str) -> None:
    for port in (servers.dashboard, servers.worker):
        headers = ask(port, "GET", path).headers
        assert {name: headers.get(name.lower()) for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert all(part in policy for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"))
    assert "unsafe" not in policy


def test_a_response_to_invalid_http_has_the_security_headers(servers: Servers) -> None:
    bare, refused = [], 0
    for port in (servers.dashboard, servers.worker):
        for raw in (*ODD_LINES, *(request("GET", "/", headers) for headers in ODD_HEADERS.values())):
            answer = send(port, raw, idle_s=0.2)
            refused += answer.status == 400
            if (
                answer.status >= 200
                and not HEADERS.items() <= {n: answer.headers.get(n.lower()) for n in HEADERS}.items()
            ):
                bare.append((raw[:80], answer))
    assert bare == []
    assert refused > 20, "many of these reach no handler of Tamiz"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:6067", "10.0.0.1", ""])
def test_a_page_accepts_only_its_own_host_names(servers: Servers, host: str) -> None:
    token = servers.tokens.get("ana")
    assert ask(servers.dashboard, "GET", "/state", token, Host=host).status == 403
    assert ask(servers.dashboard, "GET", "/state", token, Host="LOCALHOST.:6067").status == 200
    assert ask(servers.dashboard, "GET", "/livez", Host=host).status == 200, "probes come by the address"


def test_a_page_goes_by_the_names_that_are_set(tmp_path: Path) -> None:
    with running_servers(tmp_path, web_hosts="tamiz.example.org") as running:
        own = {"Host": "tamiz.example.org", "Origin": "https://tamiz.example.org"}
        for host, status in (("Tamiz.example.org", 200), ("tamiz.example.org:443", 200), ("example.org", 403)):
            assert ask(running.dashboard, "GET", "/state", running.tokens["ana"], Host=host).status == status
        response = ask(running.dashboard, "POST", "/models/3/approve", running.tokens["ana"], b"reason=better", **own)
        assert (response.status, running.approved) == (200, [(3, "better", "web:ana")])
