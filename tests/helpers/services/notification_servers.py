"""HTTP and SMTP servers on loopback that record the notifications they receive."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Request(NamedTuple):
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class HttpReceiver:
    """Records every POST and PUT; answers with the next entry of `answers`, else with `answer`: 200 without a body."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.usually = 200
        receiver = self

        class NotificationHandler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, dict(self.headers), body, self.command)
                receiver.requests.append(request)
                if receiver.answers:
                    (code, headers), body = receiver.answers.popleft(), b""
                else:
                    (code, body), headers = receiver.answer(request), {}
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST  # noqa: N815

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), NotificationHandler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Status and body."""
        return self.usually, b""


Server = TypeVar("Server", bound=HttpReceiver)


@contextlib.contextmanager
def serving(receiver: Server) -> Iterator[Server]:
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@contextlib.contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    with serving(HttpReceiver()) as receiver:
        yield receiver


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port on loopback on which no process listens or can start to listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class MailReceiver:
    """Records every mail; refuses recipients with the next entry of `refusals`."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.refusals: deque[str] = deque()

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusals:
            return self.refusals.popleft()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.to.append(list(envelope.rcpt_tos))
        self.mails.append(mail)
        return "250 taken"


@contextlib.contextmanager
def mail_receiver(
    tls: ssl.SSLContext | None = None, *, from_the_start: bool = False, login: tuple[str, str] | None = None
) -> Iterator[MailReceiver]:
    """tls: for STARTTLS, or for TLS from the first byte with `from_the_start`. login: required name and password."""
    receiver = MailReceiver()

    def admitted(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        return AuthResult(success=(given.login.decode(), given.password.decode()) == login, handled=False)

    def conversation() -> SMTP:
        return SMTP(
            receiver,
            hostname="127.0.0.1",
            tls_context=None if from_the_start else tls,
            require_starttls=tls is not None and not from_the_start,
            authenticator=admitted,
            auth_required=login is not None and not from_the_start,  # aiosmtpd does not notice TLS from the first byte
            auth_require_tls=not from_the_start,
        )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(conversation, "127.0.0.1", 0, ssl=tls if from_the_start else None)
        receiver.port = server.sockets[0].getsockname()[1]
        async with server:
            started.set()
            while not over.is_set():
                await asyncio.sleep(0.02)
        while len(asyncio.all_tasks()) > 1:  # wait for open conversations to end
            await asyncio.sleep(0.02)

    started, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(60)
        yield receiver
    finally:
        over.set()
        thread.join()
