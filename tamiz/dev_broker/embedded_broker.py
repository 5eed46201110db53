"""The embedded broker: a single-node Apache Kafka in KRaft mode, on loopback.

For the demo, tests and development. In production `TAMIZ_BOOTSTRAP_SERVERS` names a cluster, and nothing is started.
`kafka_download` provides Java and the jars, `broker_guard` ends the broker together with this process.
"""

import base64
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.files.private_files import UMASK, is_private, private_file, private_folder
from stream_app.kafka.topic_admin import admin
from tamiz.dev_broker import broker_guard
from tamiz.dev_broker.kafka_download import class_path, find_java

READY_TIMEOUT_S = 60.0
STARTED = "Kafka Server started"  # in its log
MIN_PORT, MAX_PORT = 10_000, 32_767  # of automatically chosen ports
ATTEMPTS = 3  # another process may take a free port before Kafka binds it


class EmbeddedBroker:
    """A running broker; a context manager: `with EmbeddedBroker() as broker: ... broker.bootstrap_servers`."""

    def __init__(
        self,
        port: int = 0,
        folder: Path | None = None,
        properties: Mapping[str, str] | None = None,
        java: Path | None = None,
    ) -> None:
        """Start the broker and wait until it responds.

        port: of the listener; 0 picks a free one. folder: for log and records; None for a temporary one that is removed
        on `stop`. properties: further Kafka settings, e.g. TLS for a test; they take precedence. java: the executable;
        None to search for one. Raises BrokerError, with the end of its log, if it does not start.
        """
        self._properties = dict(properties or {})
        self._java = java or find_java()
        self._class_path = class_path()
        self._process: subprocess.Popen[bytes] | None = None
        self._logged_before = 0
        self._temporary = folder is None
        self._folder = _prepare_folder(folder)
        try:
            self._start_on(port)
        except BaseException:
            self.stop()
            raise

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """Path of the broker's log."""
        return self._folder / "broker.log"

    @property
    def is_running(self) -> bool:
        """Whether the process runs; it may have died, e.g. because the disk is full."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "EmbeddedBroker":
        """Return the broker, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the broker."""
        self.stop()

    def stop(self) -> None:
        """End the process, in order if possible, and remove a temporary folder. A second call has no effect."""
        self._end()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self, pause_s: float = 0.0) -> None:
        """Stop and start again on the same port, with the same records. Raises BrokerError as starting does.

        pause_s: time between stop and start.
        """
        self._end()
        time.sleep(pause_s)
        self._start_on(self._port)

    def end_of_log(self, n: int = 15) -> str:
        """The last n log lines since the start, without the frames of stack traces."""
        lines = [line for line in self._log_text().splitlines() if not line.startswith("\tat ")]
        return "\n".join(lines[-n:])

    def _log_text(self) -> str:
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[self._logged_before :].decode(errors="replace")

    def _start_on(self, port: int) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            if port and not _is_free(port):
                raise BrokerError(f"port {port} is taken; choose another with --port, or 0 for a free one")
            self._port = port or free_port()
            self._write_settings(free_port())
            try:
                self._launch()
            except BrokerError:
                if attempt == ATTEMPTS or "Address already in use" not in self._log_text():
                    raise
            else:
                return

    def _write_settings(self, controller: int) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            # A relative path: Kafka splits the value at commas, and reads the file as Latin-1.
            "log.dirs": "records",
            "auto.create.topics.enable": "false",
            # A single node cannot replicate Kafka's internal topics, and needs few partitions.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
        } | self._properties
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        for name, content in (("server.properties", text), ("log4j2.properties", LOG4J)):
            private_file(self._folder / name)  # it may hold passwords
            (self._folder / name).write_text(content, encoding="utf-8")
        if not self.log.exists():
            private_file(self.log)

    def _java_command(self, flags: list[str], main: str, *arguments: str) -> list[str]:
        logging = "-Dlog4j2.configurationFile=log4j2.properties"
        return [str(self._java), *flags, logging, "-cp", os.pathsep.join(self._class_path), main, *arguments]

    def _format(self) -> None:
        if (self._folder / "records" / "meta.properties").exists():
            return
        arguments = ("format", "--cluster-id", _new_cluster_id(), "--config", "server.properties")
        # An optimising compiler does not pay off for a program of one second.
        command = self._java_command(["-Xmx128m", "-XX:TieredStopAtLevel=1"], "kafka.tools.StorageTool", *arguments)
        with self.log.open("ab") as log:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder, timeout=READY_TIMEOUT_S, umask=UMASK
            )
        if done.returncode:
            raise BrokerError(f"Kafka cannot format its storage; the end of its log:\n{self.end_of_log()}")

    def _launch(self) -> None:
        self._logged_before = self.log.stat().st_size if self.log.exists() else 0
        self._format()
        guard_command = [
            sys.executable,
            "-I",
            "-S",
            broker_guard.__file__,
            str(self._folder) if self._temporary else "",
        ]
        kafka = self._java_command(["-Xmx1g", "-XX:+UseSerialGC"], "kafka.Kafka", "server.properties")
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal must signal this process only, which stops its clients first.
            self._process = subprocess.Popen(
                [*guard_command, *kafka],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
                umask=UMASK,
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.is_running:
                code = self._process.returncode
                self._end()
                raise BrokerError(f"Kafka ended with code {code}; the end of its log:\n{self.end_of_log()}")
            # Kafka listens before it can serve; a client that connects too early fails and leaves its sockets open.
            if STARTED in self._log_text():
                _require_response(self.bootstrap_servers)
                return
            time.sleep(0.1)
        self._end()
        raise BrokerError(
            f"Kafka did not start within {READY_TIMEOUT_S:.0f} s; the end of its log:\n{self.end_of_log()}"
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"x")
            process.stdin.close()
        process.wait()  # bounded: the guard kills a process that does not stop


LOG4J = """\
appender.file.type=File
appender.file.name=file
appender.file.fileName=broker.log
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %c: %m%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
rootLogger.level=WARN
rootLogger.appenderRef.file.ref=file
"""


@contextlib.contextmanager
def broker_or_embedded(settings: Settings) -> Iterator[str]:
    """The address of the configured cluster, or of an embedded broker that runs while the context is open."""
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


def free_port() -> int:
    """A port on loopback that is free now.

    It is below the range that Linux uses for outgoing connections: otherwise any client could get the same port before
    the broker binds it, or while the broker restarts.
    """
    while not _is_free(port := MIN_PORT + secrets.randbelow(MAX_PORT - MIN_PORT)):
        pass
    return port


def _prepare_folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="tamiz-broker-"))
    try:
        private_folder(folder)
    except OSError as error:
        raise BrokerError(f"--data-dir {folder}: cannot be created: {error.strerror}") from None
    folder = folder.resolve()
    # The permissions of an existing folder are not changed, only those of the broker's own files in it.
    for path in (folder / "records", folder / "broker.log"):
        if not is_private(path):
            path.chmod(path.stat().st_mode & ~0o077)
    return folder


def _new_cluster_id() -> str:
    # 16 random bytes in URL-safe base64; a leading dash would be parsed as an option.
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text


def _require_response(bootstrap: str) -> None:
    try:
        with admin(bootstrap) as client:
            client.list_topics()
    except KafkaError as error:
        raise BrokerError(f"Kafka has started but does not respond at {bootstrap}: {error}") from None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
