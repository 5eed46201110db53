"""The REST client of the registry, against servers that do not answer as MLflow does."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import MANIFEST_FILE
from stream_app.registry import registry_client
from stream_app.registry.registry_client import RegistryServer, RegistryUnavailableError
from tamiz.dev_broker.embedded_broker import free_port

Answer = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[tuple[RegistryServer, list[str]]]:
    """A client of a server that gives these answers, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        uri = f"http://127.0.0.1:{server.server_address[1]}/"
        yield RegistryServer(Settings(mlflow_tracking_uri=uri)), asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "message", "attempts"),
    [
        ((200, {}, b"<html>a proxy's page</html>"), "does not respond as MLflow does", 1),
        ((200, {}, b'{"model_version": {"version": "seven"}}'), "does not respond as MLflow does", 1),
        ((200, {"Content-Length": "50"}, b'{"model_version"'), "127.0.0.1", 1),
        ((403, {}, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'), "HTTP 403: PERMISSION_DENIED no", 1),
        (
            (302, {"Location": "http://127.0.0.1:9/"}, b""),
            "set TAMIZ_MLFLOW_TRACKING_URI to the server's own address",
            1,
        ),
        ((503, {}, b"\xff starting"), "HTTP 503", 2),
        ((500, {}, b'{"error_code": "INVALID_PARAMETER_VALUE"}'), "HTTP 500", 2),
    ],
)
def test_an_answer_that_is_not_mlflows_makes_the_registry_unavailable(
    answer: Answer, message: str, attempts: int
) -> None:
    with answering(lambda path: answer) as (client, asked), pytest.raises(RegistryUnavailableError, match=message):
        client.alias_version("model", "champion")
    assert len(asked) == attempts


def test_a_server_that_does_not_listen_is_unavailable() -> None:
    client = RegistryServer(Settings(mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(RegistryUnavailableError, match="refused"):
        client.versions("name = 'model'")


def test_all_pages_of_versions_are_read() -> None:
    def page(path: str) -> Answer:
        number, token = ("1", "next") if "page_token" not in path else ("2", "")
        version = {"version": number, "run_id": "r", "tags": [{"key": "k"}], "a field of later": {}}
        return 200, {}, json.dumps({"model_versions": [version], "next_page_token": token}).encode()

    with answering(page) as (client, _):
        found = client.versions("name = 'model'")
    assert [(each.version, each.tags) for each in found] == [(1, {"k": ""}), (2, {"k": ""})]


@pytest.mark.parametrize(("listed", "sent"), [(100, 11), (5, 100), (5, 11)])
def test_a_file_of_a_bundle_is_not_read_beyond_its_limit(
    listed: int, sent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_client, "MAX_BYTES", {MANIFEST_FILE: 10})
    monkeypatch.setattr(registry_client, "CHUNK_BYTES", 4)

    def registry(path: str) -> Answer:
        if "runs/get" in path:
            return 200, {}, b'{"run": {"info": {"artifact_uri": "mlflow-artifacts:/1/r/artifacts"}}}'
        if "artifacts/list" in path:
            file = {"path": f"bundle/../{MANIFEST_FILE}", "file_size": str(listed)}
            return 200, {}, json.dumps({"files": [{"path": "bundle/sub", "is_dir": True}, file]}).encode()
        return 200, {}, b"x" * sent

    with answering(registry) as (client, _), pytest.raises(ModelIncompatibleError, match="at most 10 are allowed"):
        client.download("r", tmp_path)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [p.parent for p in written] == ([tmp_path / "bundle"] if listed < sent else [])
    assert all(p.stat().st_size <= 12 for p in written)
