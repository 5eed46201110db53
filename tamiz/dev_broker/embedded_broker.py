"""The embedded broker: a real Apache Kafka, one node in KRaft mode, on loopback.

For the demo, the tests and a developer's machine; production points `TAMIZ_BOOTSTRAP_SERVERS` at a cluster, and then
nothing is started. `kafka_runtime` finds it a Java and its jars, `broker_guard` sees to it that it ends with us.
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
MIN_PORT, MAX_PORT = 10_000, 32_767  # of those that we choose ourselves
ATTEMPTS = 3  # somebody else may take a free port between our finding it and Kafka's binding it


class EmbeddedBroker:
    """A running broker; a context manager. `with EmbeddedBroker() as broker: ... broker.bootstrap_servers`."""

    def __init__(
        self,
        port: int = 0,
        folder: Path | None = None,
        properties: Mapping[str, str] | None = None,
        java: Path | None = None,
    ) -> None:
        """Start it and wait until it answers.

        port: of the listener; 0 takes a free one. folder: for its log and records, kept; None takes a temporary one
        that is removed on `stop`. properties: more of Kafka's own settings, e.g. TLS for a test; they win over ours.
        java: the program to run it on; None looks for one. Raises BrokerError when it does not start, with the end
        of its log.
        """
        self._properties = dict(properties or {})
        self._java = java or find_java()
        self._class_path = class_path()
        self._process: subprocess.Popen[bytes] | None = None
        self._logged_before = 0
        self._temporary = folder is None
        self._folder = _made(folder)
        try:
            self._start_on(port)
        except BaseException:
            self.stop()
            raise

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """The broker's own log."""
        return self._folder / "broker.log"

    @property
    def is_running(self) -> bool:
        """Whether it still runs; it may have died, of a full disk for one."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "EmbeddedBroker":
        """Itself: it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End the process, cleanly if it lets us, and remove a temporary folder. A second time: nothing."""
        self._end()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self, away_s: float = 0.0) -> None:
        """Stop and start again on the same port, with its records kept. Raises BrokerError as starting does.

        away_s: how long nobody answers in between.
        """
        self._end()
        time.sleep(away_s)
        self._start_on(self._port)

    def end_of_log(self, n: int = 15) -> str:
        """The last n lines it wrote since it was started, without the frames of stack traces."""
        lines = [line for line in self._log_text().splitlines() if not line.startswith("\tat ")]
        return "\n".join(lines[-n:])

    def _log_text(self) -> str:
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[self._logged_before :].decode(errors="replace")

    def _start_on(self, port: int) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            if port and not _is_free(port):
                raise BrokerError(f"port {port} is taken; choose another with --port, or 0 for any free one")
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
            # Seen from the folder it runs in: Kafka splits this at commas, and reads the file as Latin-1.
            "log.dirs": "records",
            "auto.create.topics.enable": "false",
            # One node: what Kafka keeps for itself cannot be replicated, and needs few partitions.
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
        # Optimising compilation never pays for a program of one second.
        command = self._java_command(["-Xmx128m", "-XX:TieredStopAtLevel=1"], "kafka.tools.StorageTool", *arguments)
        with self.log.open("ab") as log:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder, timeout=READY_TIMEOUT_S, umask=UMASK
            )
        if done.returncode:
            raise BrokerError(f"Kafka cannot format its storage; its log ends:\n{self.end_of_log()}")

    def _launch(self) -> None:
        self._logged_before = self.log.stat().st_size if self.log.exists() else 0
        self._format()
        guarded = [sys.executable, "-I", "-S", broker_guard.__file__, str(self._folder) if self._temporary else ""]
        kafka = self._java_command(["-Xmx1g", "-XX:+UseSerialGC"], "kafka.Kafka", "server.properties")
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal is ours to answer, after our clients are done with it.
            self._process = subprocess.Popen(
                [*guarded, *kafka],
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
                raise BrokerError(f"Kafka ended with code {code}; its log ends:\n{self.end_of_log()}")
            # It listens before it can serve; asked too early, a client gives up and leaves its sockets open.
            if STARTED in self._log_text():
                _ask(self.bootstrap_servers)
                return
            time.sleep(0.1)
        self._end()
        raise BrokerError(f"Kafka did not answer within {READY_TIMEOUT_S:.0f} s; its log ends:\n{self.end_of_log()}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"x")
            process.stdin.close()
        process.wait()  # bounded: the guard kills what does not stop by itself


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
    """The cluster that the settings name, or else an embedded broker on a free port while the context lasts."""
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


def free_port() -> int:
    """A port on loopback that nobody listens on now.

    It is below the range from which Linux takes the ports of outgoing connections: any client that connects somewhere
    could be given a port of that range before we bind it, or while a restarted broker is down.
    """
    while not _is_free(port := MIN_PORT + secrets.randbelow(MAX_PORT - MIN_PORT)):
        pass
    return port


def _made(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="tamiz-broker-"))
    try:
        private_folder(folder)
    except OSError as error:
        raise BrokerError(f"the broker's folder {folder} cannot be made: {error.strerror}") from None
    folder = folder.resolve()
    # Another program's folder stays as it is; the records that were kept in it are ours.
    for kept in (folder / "records", folder / "broker.log"):
        if not is_private(kept):
            kept.chmod(kept.stat().st_mode & ~0o077)
    return folder


def _new_cluster_id() -> str:
    # 16 random bytes in URL-safe base64; one that began with a dash would be taken for an option.
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return made


def _ask(bootstrap: str) -> None:
    try:
        with admin(bootstrap) as client:
            client.list_topics()
    except KafkaError as error:
        raise BrokerError(f"Kafka says it has started, and does not answer at {bootstrap}: {error}") from None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
