"""Where streams are measured: a broker of its own, a champion, a topic full of transactions, and who works on it.

The broker and whoever measures share the last core; each contender has the first one for itself. Linux only.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import msgspec
from kafka import KafkaConsumer, TopicPartition

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings, load
from schemas.topics import topic_table
from stream_app.kafka.topic_admin import create_topics
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
CORES = sorted(os.sched_getaffinity(0))
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
NEEDS_CONFLUENT = ("quix_streams", "confluent_loop")


@dataclass(frozen=True)
class BenchmarkEnvironment:
    """A running broker, settings whose registry has a champion, and that champion's bundle."""

    bootstrap: str
    folder: Path
    settings: Settings
    bundle: Path

    def topics_of_its_own(self, partitions: int, transactions: str | None = None, **changes: object) -> Settings:
        """Fresh topics and group; the transactions of another may be read again."""
        mark = uuid4().hex[:8]
        names = {f: f"{getattr(load({}), f)}-{mark}" for f in Settings.__struct_fields__ if f.endswith("_topic")}
        names |= {"transactions_topic": transactions} if transactions else {}
        settings = msgspec.structs.replace(
            self.settings,
            **names,
            partitions=partitions,
            consumer_group=f"bench-{mark}",
            web_port=free_port(),
            **changes,
        )
        create_topics(self.bootstrap, topic_table(settings), 1)
        return settings

    def simulated(self, rows: int, seed: int = 1) -> Path:
        """Transactions in the data set's own messy JSON, a line each."""
        path = self.folder / f"{rows}-{seed}.jsonl"
        if not path.exists():
            traffic = Traffic(rows=rows, seed=seed, signal=True)
            write(traffic, simulate(traffic), path)
        return path

    def fill(self, settings: Settings, path: Path) -> None:
        """Send a file's lines to the transactions topic."""
        load_words = "-m", "benchmarks.load", self.bootstrap, settings.transactions_topic, str(path), "ID_USER"
        subprocess.run([PEERS_PYTHON, *load_words], cwd=ROOT, check=True)

    @contextlib.contextmanager
    def working(
        self, who: str, settings: Settings, within_s: float = 1.0, core: int = CORES[0]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A contender on a core of its own: `tamiz`, or a module of `benchmarks.peers`."""
        python: Path | str = PEERS_PYTHON if who in NEEDS_CONFLUENT else sys.executable
        words = ["-m", "tamiz", "worker"]
        if who != "tamiz":
            topics = settings.transactions_topic, settings.decisions_topic, settings.dead_letters_topic
            words = ["-m", f"benchmarks.peers.{who}", self.bootstrap, *topics, settings.consumer_group]
            words += [str(within_s), str(self.bundle)]
        log = self.folder / f"{who}-{settings.consumer_group}-{core}.log"
        with log.open("wb") as said:
            command = ["taskset", "-c", str(core), str(python), *words]
            process = subprocess.Popen(command, env=environment(settings), stdout=said, stderr=said, cwd=ROOT)
        try:
            yield process
            if process.poll() is not None:
                raise SystemExit(f"{who} ended by itself:\n{log.read_text()[-2000:]}")
        finally:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def counting(self, settings: Settings) -> Iterator["ConsumedCounts"]:
        """How many transactions have come out of a contender."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        topics = settings.decisions_topic, settings.dead_letters_topic
        try:
            yield ConsumedCounts(consumer, [TopicPartition(t, p) for t in topics for p in range(settings.partitions)])
        finally:
            consumer.close()


@dataclass(frozen=True)
class ConsumedCounts:
    """The ends of a contender's output topics."""

    consumer: KafkaConsumer
    places: list[TopicPartition]

    def __call__(self) -> int:
        return sum(self.consumer.end_offsets(self.places).values())


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child with these settings, on one thread."""
    return child_environment(settings) | ONE_THREAD


@contextlib.contextmanager
def staged(scratch: Path | None = None) -> Iterator[BenchmarkEnvironment]:
    """Train on simulated signal, start a broker. Children inherit the last core."""
    os.sched_setaffinity(0, {CORES[-1]})
    with TemporaryDirectory(prefix="tamiz-bench-", dir=scratch) as made:
        folder = Path(made)
        settings = msgspec.structs.replace(load({}), state_dir=folder / "state")
        past = Traffic(rows=30_000, seed=0, signal=True)
        write(past, simulate(past), folder / "history.csv")
        version = train(settings, folder / "history.csv", force="a benchmark decides nothing").version
        bundle = download_bundle(settings, version, folder / "bundle")
        with EmbeddedBroker() as broker:
            settings = msgspec.structs.replace(settings, bootstrap_servers=broker.bootstrap_servers)
            yield BenchmarkEnvironment(broker.bootstrap_servers, folder, settings, bundle)
