"""A real MLflow server, and a TLS proxy in front of it that requires authentication."""

import base64
import contextlib
import http.client
import http.server
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tamiz.dev_broker.embedded_broker import free_port


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server that proxies artifacts, as in production; gives its address."""
    port = free_port()
    options = ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), *options]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "server artifacts")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not _healthy(url):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def authenticating_proxy(server: str, allowed: set[str], certificate: tuple[Path, Path]) -> Iterator[str]:
    """A TLS reverse proxy that forwards requests with one of the `allowed` Authorization headers; gives its address."""
    host = server.removeprefix("http://")

    class ProxyHandler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") not in allowed:
                self._answer(401, b"unauthorized", "text/plain")
                return
            behind = http.client.HTTPConnection(host, timeout=60)
            passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "authorization")}
            behind.request(self.command, self.path, body, passed | {"Host": host})
            answer = behind.getresponse()
            self._answer(answer.status, answer.read(), answer.getheader("Content-Type") or "text/plain")
            behind.close()

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815 (the library's names)

        def log_message(self, format: str, *args: object) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ProxyHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)


def basic_auth_header(user: str, password: str) -> str:
    """The value of the Authorization header for HTTP basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
