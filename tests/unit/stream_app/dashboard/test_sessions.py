"""Dashboard sessions: lifetime, maximum number, and cross-site requests."""

from pathlib import Path

import pytest

from schemas.security.web_users import User
from stream_app.dashboard.sessions import LIFETIME_S, MAX_SESSIONS, Sessions, is_own_origin
from stream_app.web.web_auth import Authenticator, UserFile
from tests.helpers.services.page_servers import users_file


@pytest.fixture
def users(tmp_path: Path) -> dict[str, User]:
    path, _ = users_file(tmp_path)
    return {user.name: user for user in UserFile(path).users()}


@pytest.fixture
def auth(users: dict[str, User], tmp_path: Path) -> Authenticator:
    return Authenticator(UserFile(tmp_path / "web-users"))


def test_a_session_lasts_its_time_and_ends_when_it_is_signed_out(users: dict[str, User], auth: Authenticator) -> None:
    now = [0.0]
    sessions = Sessions(auth, clock=lambda: now[0])
    one, other = sessions.sign_in(users["ana"]), sessions.sign_in(users["reader"])
    assert (sessions.user(one), sessions.user(other), sessions.user("")) == (users["ana"], users["reader"], None)
    sessions.sign_out(other)
    assert (sessions.user(one), sessions.user(other)) == (users["ana"], None)
    now[0] = LIFETIME_S
    assert sessions.user(one) is None


def test_too_many_sessions_end_only_the_oldest_of_that_user(users: dict[str, User], auth: Authenticator) -> None:
    sessions = Sessions(auth)
    first = sessions.sign_in(users["ana"])
    many = [sessions.sign_in(users["reader"]) for _ in range(MAX_SESSIONS + 2)]
    assert [sessions.user(s) is not None for s in many] == [False] * 2 + [True] * MAX_SESSIONS
    assert sessions.user(first) == users["ana"]


@pytest.mark.parametrize(
    "origin", [None, "", "null", "http://[", "https://evil.example", "localhost:6067", "//localhost:6067"]
)
def test_the_origin_of_another_site_is_refused(origin: str | None) -> None:
    assert not is_own_origin(origin, "localhost:6067")
    assert not is_own_origin(origin, "")
