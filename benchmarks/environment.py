"""Environment of the stream benchmarks: a broker, a champion, a topic of transactions, and one contender at a time.

The broker and the measuring process share the last core; the contender has the first core to itself. Linux only.
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
from schemas.topics import topic_table, with_own_topics
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
WORKERS = {"tamiz": ["-m", "tamiz", "worker"], "uncounted_worker": ["-m", "benchmarks.peers.uncounted_worker"]}
NEEDS_CONFLUENT = ("quix_streams", "quix_windows", "confluent_loop")


@dataclass(frozen=True)
class BenchmarkEnvironment:
    """A running broker, settings of a registry with a champion, and the bundle of the champion."""

    bootstrap: str
    folder: Path
    settings: Settings
    bundle: Path
    days: int = 29  # event time of the simulated transactions

    def create_topics(self, partitions: int, transactions: str | None = None, **changes: object) -> Settings:
        """Create topics and a group; `transactions` reuses an existing transactions topic."""
        mark = uuid4().hex[:8]
        settings = msgspec.structs.replace(
            with_own_topics(self.settings, f"{mark}-"),
            existing_transactions_topic=transactions,
            partitions=partitions,
            consumer_group=f"bench-{mark}",
            web_port=free_port(),
            **changes,
        )
        create_topics(self.bootstrap, topic_table(settings), 1)
        return settings

    def simulated_file(self, rows: int, seed: int = 1) -> Path:
        """File of simulated transactions, one JSON object per line, with the data set's irregular formats."""
        path = self.folder / f"{rows}-{seed}-{self.days}.jsonl"
        if not path.exists():
            traffic = Traffic(rows=rows, seed=seed, days=self.days, signal=True)
            write(traffic, simulate(traffic), path)
        return path

    def fill(self, settings: Settings, path: Path) -> None:
        """Send the lines of a file to the transactions topic."""
        load_words = "-m", "benchmarks.load", self.bootstrap, settings.transactions_topic, str(path), "ID_USER"
        subprocess.run([PEERS_PYTHON, *load_words], cwd=ROOT, check=True)

    @contextlib.contextmanager
    def run_contender(
        self, program: str, settings: Settings, within_s: float = 1.0, core: int = CORES[0]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Context manager: a contender on its own core: `tamiz`, or a module of `benchmarks.peers`."""
        python: Path | str = PEERS_PYTHON if program in NEEDS_CONFLUENT else sys.executable
        words = WORKERS.get(program, [])
        if not words:
            topics = settings.transactions_topic, settings.decisions_topic, settings.dead_letters_topic
            words = ["-m", f"benchmarks.peers.{program}", self.bootstrap, *topics, settings.consumer_group]
            words += [str(within_s), str(self.bundle)]
        log = self.folder / f"{program}-{settings.consumer_group}-{core}.log"
        with log.open("wb") as output:
            command = ["taskset", "-c", str(core), str(python), *words]
            process = subprocess.Popen(command, env=environment(settings), stdout=output, stderr=output, cwd=ROOT)
        try:
            yield process
            if process.poll() is not None:
                raise SystemExit(f"{program} ended unexpectedly:\n{log.read_text()[-2000:]}")
        finally:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def count_outputs(self, settings: Settings) -> Iterator["ConsumedCounts"]:
        """Context manager: a counter of the transactions that a contender has processed."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        topics = settings.decisions_topic, settings.dead_letters_topic
        try:
            yield ConsumedCounts(consumer, [TopicPartition(t, p) for t in topics for p in range(settings.partitions)])
        finally:
            consumer.close()


@dataclass(frozen=True)
class ConsumedCounts:
    """Sum of the end offsets of a contender's output topics."""

    consumer: KafkaConsumer
    places: list[TopicPartition]

    def __call__(self) -> int:
        return sum(self.consumer.end_offsets(self.places).values())


def environment(settings: Settings) -> dict[str, str]:
    """Environment of a child process with these settings and one thread."""
    return child_environment(settings) | ONE_THREAD


@contextlib.contextmanager
def benchmark_environment(scratch: Path | None = None) -> Iterator[BenchmarkEnvironment]:
    """Context manager: train on simulated data and start a broker. Child processes inherit the last core."""
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
