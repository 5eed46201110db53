"""The worker's health server and the dashboard in this process, without a broker; and raw HTTP requests."""

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from stream_app.dashboard.messages import PromotionReply
from stream_app.dashboard.registry_poller import Registry
from stream_app.dashboard.server import Dashboard
from stream_app.web.health_server import HealthServer, Readiness
from stream_app.web.web_auth import authenticator
from tamiz.services.user_file import add_user
from tests.helpers.services.loop_thread import running_loop

NAMES = {"reader": "read", "ana": "approve", "prometheus": "scrape"}
READY = Readiness(ready=True, waiting_for=(), model="m", model_version=1, forced=False, partitions=(0,))


@dataclass
class Servers:
    """Ports, tokens by user, and approvals: version, reason, actor."""

    worker: int
    dashboard: int
    tokens: dict[str, str]
    users_file: Path
    approved: list[tuple[int, str, str]]


class HttpAnswer(msgspec.Struct, frozen=True):
    """A response; status 0 when there was none."""

    status: int
    headers: dict[str, str]
    body: bytes


def users_file(folder: Path) -> tuple[Path, dict[str, str]]:
    """A users file with one user per role, and the tokens by name."""
    path = folder / "web-users"
    return path, {name: add_user(path, name, [role]) for name, role in NAMES.items()}


@contextlib.contextmanager
def running_servers(folder: Path, *, authentication: bool = True, **changes: Any) -> Iterator[Servers]:
    """Run both servers on an event loop in a thread. authentication: whether tokens are required."""
    path, tokens = users_file(folder) if authentication else (folder / "none", {})
    settings = Settings(bootstrap_servers="127.0.0.1:1", web_users_file=path if authentication else None, **changes)
    approved: list[tuple[int, str, str]] = []

    def approve(version: int, reason: str, actor: str) -> PromotionReply:
        approved.append((version, reason, actor))
        return PromotionReply(version=version, change="promoted", by=actor, warning=None)

    def away(*_: Any) -> Any:
        raise ModelUnavailableError("there is no registry here")

    registry = Registry(reference=away, pending_approvals=lambda: [], report=away, approve=approve, reject=approve)
    pages = HealthServer(
        alive=lambda: True, readiness=lambda: READY, registry=CollectorRegistry(), auth=authenticator(settings)
    )

    async def start() -> tuple[Dashboard, int, int]:
        page = Dashboard(settings, registry, authenticator(settings))
        return page, await pages.start("127.0.0.1", 0), await page.start("127.0.0.1", 0)

    with running_loop(30) as run:
        page, worker, dashboard = run(start())
        try:
            yield Servers(worker, dashboard, tokens, path, approved)
        finally:
            run(page.stop())
            run(pages.stop())


def request(method: str, path: str, headers: dict[str, str | bytes] | None = None, body: bytes = b"") -> bytes:
    """The bytes of an HTTP request; POST requests have a form body."""
    lines = {"Host": "localhost", "Connection": "close"} | (headers or {})
    if method == "POST":
        lines = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))} | lines
    coded = b"".join(
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
        for name, value in lines.items()
    )
    return f"{method} {path} HTTP/1.1\r\n".encode() + coded + b"\r\n" + body


def send(port: int, raw: bytes, idle_s: float = 5.0) -> HttpAnswer:
    """Send bytes and read the response until it is complete, the server closes, or nothing arrives for `idle_s`."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=idle_s) as connection, contextlib.suppress(OSError):
        connection.sendall(raw)
        while not _is_complete(received) and (part := connection.recv(65536)):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return HttpAnswer(int(status.split()[1]) if status.startswith("HTTP/") else 0, headers, body)


def _is_complete(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(found) and length is not None and len(body) >= int(length[1])


def ask(port: int, method: str, path: str, token: str | None = None, body: bytes = b"", **headers: str) -> HttpAnswer:
    """Send a request and read the response; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = named | ({"Authorization": f"Bearer {token}"} if token else {})
    if method == "POST":
        sent = {"Origin": "http://localhost"} | sent
    return send(port, request(method, path, {**sent}, body))
