"""Access to the pages: by token, role, address, and expiry."""

import contextlib
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.configuration.settings import Settings, load
from schemas.errors import ConfigError
from schemas.security.hosts import address_of
from schemas.security.web_users import MIN_TOKEN_LENGTH, new_user, read_users
from stream_app.web import web_auth
from stream_app.web.request_limit import ADDRESS_BURST, LOG_INTERVAL_S, OVERALL_BURST, FailureLimiter, LogLimiter
from stream_app.web.web_auth import authenticator
from tamiz.main import app
from tamiz.services.user_file import add_user, remove_user, users_of
from tests.helpers.services.page_servers import HttpAnswer, Servers, ask, request, running_servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with running_servers(tmp_path, web_trusted_proxies="127.0.0.0/8") as running:
        yield running


def signed_in(servers: Servers, name: str, **headers: str) -> HttpAnswer:
    return ask(servers.dashboard, "POST", "/signin", body=f"token={servers.tokens[name]}".encode(), **headers)


def cookie(answer: HttpAnswer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


#                 GET /state   POST approve   GET /metrics
ROLES = {
    None: (401, 401, 401),
    "reader": (200, 403, 403),
    "ana": (200, 200, 403),
    "prometheus": (403, 403, 200),
}


@pytest.mark.parametrize("name", ROLES)
def test_a_role_allows_only_its_own_actions(servers: Servers, name: str | None) -> None:
    token = servers.tokens[name] if name else None
    answers = (
        ask(servers.dashboard, "GET", "/state", token),
        ask(servers.dashboard, "POST", "/models/3/approve", token, b"reason=better"),
        ask(servers.worker, "GET", "/metrics", token),
    )
    assert tuple(a.status for a in answers) == ROLES[name]
    assert servers.approved == ([(3, "better", "web:ana")] if name == "ana" else [])
    for refused in (a for a in answers if a.status != 200):
        assert (set(json.loads(refused.body)), b"\n" in refused.body) == ({"error"}, False)
    assert ask(servers.worker, "GET", "/readyz").status == 200


def test_a_session_is_the_users_and_acts_in_their_name_and_role(servers: Servers) -> None:
    for name, status, may in (("reader", 403, False), ("ana", 200, True)):
        session = cookie(signed_in(servers, name))
        assert servers.tokens[name] not in session
        me = json.loads(ask(servers.dashboard, "GET", "/me", Cookie=session).body)
        assert me == {"user": name, "may_review": may, "may_approve": may}
        response = ask(servers.dashboard, "POST", "/models/3/reject", None, b"reason=no+good", Cookie=session)
        assert response.status == status
    assert servers.approved == [(3, "no good", "web:ana")]
    assert signed_in(servers, "prometheus").headers["location"] == "/signin?role"


def test_a_user_removed_from_the_file_is_refused_within_a_second(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_auth, "RELOAD_INTERVAL_S", 0.0)
    gone, stays = (cookie(signed_in(servers, name)) for name in ("ana", "reader"))
    token = servers.tokens["ana"]
    remove_user(servers.users_file, "ana")
    assert ask(servers.dashboard, "GET", "/state", Cookie=gone).status == 401
    assert ask(servers.dashboard, "GET", "/state", token).status == 401
    assert ask(servers.dashboard, "GET", "/state", Cookie=stays).status == 200
    add_user(servers.users_file, "ana", ["approve"])
    assert ask(servers.dashboard, "GET", "/state", Cookie=gone).status == 401, "another token, another session"
    changed = servers.users_file.read_text().replace("reader read", "reader read,scrape")
    servers.users_file.write_text(changed)
    assert ask(servers.dashboard, "GET", "/state", Cookie=stays).status == 401, "a session is bound to its roles"


def test_an_open_stream_ends_when_its_user_or_session_ends(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_auth, "RELOAD_INTERVAL_S", 0.0)
    session = cookie(signed_in(servers, "reader"))
    by_token = {"Authorization": f"Bearer {servers.tokens['ana']}"}
    with open_stream(servers, by_token) as one, open_stream(servers, {"Cookie": session}) as other:
        for stream in (one, other):
            while b"data: " not in stream.recv(65536):
                pass
        remove_user(servers.users_file, "ana")
        ask(servers.dashboard, "POST", "/signout", Cookie=session)
        assert [ends(stream) for stream in (one, other)] == [True, True]


def ends(stream: socket.socket) -> bool:
    """Whether the server closes the stream within five seconds."""
    deadline = time.monotonic() + 5
    with contextlib.suppress(TimeoutError):
        while (left_s := deadline - time.monotonic()) > 0:
            stream.settimeout(left_s)
            if not stream.recv(65536):
                return True
    return False


@contextlib.contextmanager
def open_stream(servers: Servers, headers: dict[str, str]) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", servers.dashboard), timeout=5) as stream:
        stream.sendall(request("GET", "/events", {**headers}))
        yield stream


def test_an_invalid_line_affects_one_user_and_a_missing_file_all(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_auth, "RELOAD_INTERVAL_S", 0.0)
    token = servers.tokens["ana"]
    good = servers.users_file.read_bytes()
    servers.users_file.write_bytes(good + b"eve approve \xff\xfe a-secret\n")
    assert ask(servers.dashboard, "GET", "/state", token).status == 200
    assert ("line 4" in caplog.text, "a-secret" in caplog.text) == (True, False)
    servers.users_file.unlink()
    assert [ask(servers.dashboard, "GET", "/state", token).status for _ in range(3)] == [401] * 3
    assert caplog.text.count("all users are refused") == 1
    servers.users_file.write_bytes(good)
    assert ask(servers.dashboard, "GET", "/state", token).status == 200


def test_wrong_tokens_are_limited_and_logged_and_lock_no_user_out(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    attacker = {"X-Forwarded-For": "203.0.113.9"}
    answers = [ask(servers.dashboard, "GET", "/state", "x" * 43, **attacker).status for _ in range(ADDRESS_BURST + 5)]
    assert answers == [401] * ADDRESS_BURST + [429] * 5
    form = ask(servers.dashboard, "POST", "/signin", None, b"token=forged%0a2026-11-27+INFO+ana+signed+in", **attacker)
    shown = ask(servers.dashboard, "GET", "/metrics", servers.tokens["prometheus"]).body
    assert f"tamiz_authentication_failures_total {ADDRESS_BURST + 6}.0".encode() in shown
    assert (form.status, form.headers["retry-after"]) == (429, "10")
    assert ask(servers.dashboard, "GET", "/state", "x" * 43, X_Forwarded_For="203.0.113.10").status == 401
    for headers in (attacker, {}):
        assert ask(servers.dashboard, "GET", "/state", servers.tokens["ana"], **headers).status == 200
        assert signed_in(servers, "ana", **headers).headers["location"] == "/"
    lines = [r.getMessage() for r in caplog.records if "invalid token" in r.getMessage()]
    assert lines == ["invalid token from 203.0.113.9"]
    assert "forged" not in caplog.text


def test_failures_of_one_address_do_not_limit_others() -> None:
    now = [0.0]
    limiter, one, other = FailureLimiter(lambda: now[0]), address_of("203.0.113.9"), address_of("2001:db8::1")
    assert [limiter.allow(one) for _ in range(5_000)].count(True) == ADDRESS_BURST
    assert limiter.allow(other)
    assert [limiter.allow(address_of(f"2001:db8::{i:x}")) for i in range(1, 99)].count(True) == ADDRESS_BURST - 1, "/64"
    many = [limiter.allow(address_of(f"10.{i // 250}.{i % 250}.1")) for i in range(20_000)]
    assert many.count(True) == OVERALL_BURST - 2 * ADDRESS_BURST
    now[0] = 60.0
    assert limiter.allow(one)


def test_the_log_states_the_number_of_suppressed_lines() -> None:
    now = [0.0]
    lines = LogLimiter(lambda: now[0])
    assert [lines.allow() for _ in range(3)] == [0, None, None]
    now[0] = LOG_INTERVAL_S
    assert [lines.allow(), lines.allow()] == [2, None]


def test_behind_a_trusted_proxy_cookies_are_secure_and_hsts_is_sent(servers: Servers, tmp_path: Path) -> None:
    plain = signed_in(servers, "ana")
    assert ("Secure" in plain.headers["set-cookie"], "strict-transport-security" in plain.headers) == (False, False)
    for proto in ("https", "http, https"):
        tls = signed_in(servers, "ana", X_Forwarded_Proto=proto, Origin="https://localhost")
        assert all(part in tls.headers["set-cookie"] for part in ("Secure", "HttpOnly", "SameSite=Strict"))
        assert tls.headers["strict-transport-security"] == "max-age=31536000"
    assert signed_in(servers, "ana", X_Forwarded_Proto="https", Origin="http://localhost").status == 403
    (tmp_path / "other").mkdir()
    with running_servers(tmp_path / "other", web_trusted_proxies="10.0.0.0/8") as untrusting:
        response = signed_in(untrusting, "ana", X_Forwarded_Proto="https")
        assert ("Secure" in response.headers["set-cookie"], "strict-transport-security" in response.headers) == (
            False,
            False,
        )


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("8.8.8.8, 203.0.113.9", "203.0.113.9"),
        ("8.8.8.8, 203.0.113.9, 127.0.0.2", "203.0.113.9"),
        ("8.8.8.8, x\x1b[2J", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_address_is_the_nearest_that_no_trusted_proxy_has(
    servers: Servers, forwarded: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(servers.worker, "GET", "/metrics", "x" * 43, X_Forwarded_For=forwarded.replace("\x1b", "_"))
    assert f"invalid token from {address}" in [r.getMessage() for r in caplog.records]


@pytest.mark.parametrize("token", ["", "short", "x" * (MIN_TOKEN_LENGTH - 1), "x" * 257])
def test_a_short_or_empty_token_never_signs_in(tmp_path: Path, token: str) -> None:
    salt = bytes(16)
    digest = hashlib.sha256(salt + token.encode()).hexdigest()
    path = tmp_path / "users"
    path.write_text(f"eve approve sha256:{salt.hex()}:{digest}\n")
    auth = authenticator(Settings(web_host="0.0.0.0", web_users_file=path))
    assert auth.by_token(token) is None


def test_a_token_is_long_and_not_in_the_file() -> None:
    user, token = new_user("ana", ["approve"])
    other, again = new_user("ana", ["approve"])
    assert (len(token) >= MIN_TOKEN_LENGTH, token != again, user.digest != other.digest) == (True, True, True)
    plain = hashlib.sha256(token.encode()).hexdigest()
    assert not {token, plain} & set(user.line().replace(":", " ").split())
    assert (user.has_token(token.encode()), user.has_token(again.encode())) == (True, False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ana approve", "expected NAME"),
        ("ana approve secret-token-that-is-no-hash", "no hash"),
        ("ana admin sha256:" + "0" * 32 + ":" + "0" * 64, "roles"),
        ("ana read,read sha256:" + "0" * 32 + ":" + "0" * 64, "roles"),
        ("anonymous read sha256:" + "0" * 32 + ":" + "0" * 64, "name"),
        ("ána read sha256:" + "0" * 32 + ":" + "0" * 64, "name"),
    ],
)
def test_a_line_that_is_none_is_refused_without_its_text(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "users"
    path.write_text(f"# users\n{line}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        authenticator(Settings(web_users_file=path))
    assert ("line 2" in str(caught.value), "secret" in str(caught.value)) == (True, False)
    assert read_users(path.read_text())[0] == ()


@pytest.mark.parametrize("broken", ["missing", "empty", "a folder", "writable by all", "a pipe"])
def test_a_users_file_that_cannot_do_stops_the_start_in_one_line(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "users"
    if broken == "a folder":
        path.mkdir()
    elif broken == "a pipe":
        os.mkfifo(path)
    elif broken == "empty":
        path.write_text("# no users yet\n")
    elif broken == "writable by all":
        add_user(path, "ana", ["approve"])
        path.chmod(0o666)
    with pytest.raises(ConfigError, match="web_users_file") as caught:
        authenticator(Settings(web_host="0.0.0.0", web_users_file=path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["worker", "dashboard"])
def test_pages_that_others_can_reach_need_users(command: str) -> None:
    refused = CliRunner(env={"TAMIZ_WEB_HOST": "0.0.0.0", "TAMIZ_WEB_USERS_FILE": None}).invoke(app, [command])
    assert isinstance(refused.exception, ConfigError)
    assert "TAMIZ_WEB_USERS_FILE" in str(refused.exception)


@pytest.mark.parametrize("host", ["10.1.2.3", "pod", "::", "192.168.0.1"])
def test_only_loopback_is_open(host: str) -> None:
    with pytest.raises(ConfigError, match="TAMIZ_WEB_USERS_FILE"):
        authenticator(Settings(web_host=host))
    assert not authenticator(Settings(web_host="127.0.0.1")).is_enabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("web_hosts", "http://a.example"),
        ("web_hosts", "a b"),
        ("web_trusted_proxies", "10.0.0.1/8"),
        ("web_hosts", ","),
    ],
)
def test_names_and_proxies_that_are_none_are_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load({f"TAMIZ_{name.upper()}": value})


def test_tamiz_users_adds_lists_and_removes_and_shows_a_token_once(tmp_path: Path) -> None:
    path = tmp_path / "users"
    run = CliRunner(env={"TAMIZ_WEB_USERS_FILE": str(path)})
    added = run.invoke(app, ["users", "add", "ana", "--role", "approve", "--role", "scrape"])
    token = added.stdout.strip()
    assert (added.exit_code, len(token), token in added.stderr, token in path.read_text()) == (0, 43, False, False)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    assert run.invoke(app, ["users", "add", "leo", "--role", "read"]).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o640
    assert [user.name for user in users_of(path) if user.has_token(token.encode())] == ["ana"]
    assert run.invoke(app, ["users", "list"]).stdout.splitlines() == ["ana  approve, scrape", "leo  read"]
    for wrong in (["add", "ana", "--role", "read"], ["add", "x y", "--role", "read"], ["add", "x", "--role", "root"]):
        assert isinstance(run.invoke(app, ["users", *wrong]).exception, ConfigError)
    assert run.invoke(app, ["users", "remove", "ana"]).exit_code == 0
    assert isinstance(run.invoke(app, ["users", "remove", "ana"]).exception, ConfigError)
    assert [user.name for user in users_of(path)] == ["leo"]
    assert [p.name for p in tmp_path.iterdir()] == ["users"]
