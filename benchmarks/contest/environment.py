"""Environment of the stream benchmarks: a broker, champions, topics of transactions, and one contender at a time.

The broker and the measuring processes share the last core; the contender has the first core to itself. Linux only.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner.default import murmur2

from benchmarks.contest.trees import PEERS_PYTHON as PEERS_PYTHON
from benchmarks.contest.trees import ROOT as ROOT
from benchmarks.contest.trees import THIS_TREE, Tree
from benchmarks.load.produce_requests import ProduceConnection, ProduceRequest, record_batch
from schemas.configuration.child_environment import as_environment, without_settings
from schemas.configuration.settings import Settings, load
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.topic_admin import create_topics
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate

CORES = sorted(os.sched_getaffinity(0))
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
WORKERS = {"tamiz": ["-m", "tamiz", "worker"], "uncounted_worker": ["-m", "benchmarks.peers.uncounted_worker"]}
NEEDS_CONFLUENT = ("quix_streams", "quix_windows", "confluent_loop", "confluent_pipeline")
KEY = b'"ID_USER":"'
GC_LOG = "broker-gc.log"
FILL_BATCH = 500  # records per batch of a filled topic
AGGREGATES = '["count", "sum(monto)", "mean(monto)", "max(monto)", "std(monto)"]'
PROFILED = ("ID_USER", "establecimiento", "ciudad")  # entities with profiles: 60 features
TRAIN = """
from pathlib import Path
import sys
from schemas.configuration.settings import load
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle
settings = load()
version = train(settings, Path(sys.argv[1]), force="a benchmark decides nothing").version
print(download_bundle(settings, version, Path(sys.argv[2])))
"""


@dataclass(frozen=True)
class BenchmarkChampion:
    """Settings of a registry with a champion, and the champion's bundle."""

    settings: Settings
    bundle: Path


@dataclass(frozen=True)
class BenchmarkEnvironment:
    """A running broker, and champions."""

    bootstrap: str
    folder: Path
    champions: dict[tuple[str, bool], BenchmarkChampion] = field(default_factory=dict)

    @property
    def gc_log(self) -> Path:
        """Log of the broker's garbage collector."""
        return self.folder / GC_LOG

    @property
    def settings(self) -> Settings:
        """Settings of the registry whose champion this tree has trained."""
        return self.champion().settings

    @property
    def bundle(self) -> Path:
        """The champion's bundle."""
        return self.champion().bundle

    def champion(self, tree: Tree = THIS_TREE, profiles: bool = False) -> BenchmarkChampion:
        """The champion that a tree's own code has trained, in a registry of its own."""
        if (tree.name, profiles) not in self.champions:
            self.champions[tree.name, profiles] = self._train(tree, profiles)
        return self.champions[tree.name, profiles]

    def _train(self, tree: Tree, profiles: bool) -> BenchmarkChampion:
        name = f"{tree.name}{'-profiles' if profiles else ''}"
        settings = msgspec.structs.replace(
            load({}), state_dir=self.folder / f"state-{name}", bootstrap_servers=self.bootstrap
        )
        if profiles:
            path = self.folder / f"{name}.toml"
            declared = (tree.root / "schemas" / "dataset" / "card_transactions.toml").read_text(encoding="utf-8")
            path.write_text(declared + "".join(map(_profile, PROFILED)), encoding="utf-8")
            settings = msgspec.structs.replace(settings, dataset=str(path), model_name="profiles")
        history = self.folder / "history.csv"
        if not history.exists():
            past = Traffic(rows=30_000, seed=0, signal=True)
            write(past, simulate(past), history)
        words = [str(tree.python), "-c", TRAIN, str(history), str(self.folder / f"bundle-{name}")]
        done = subprocess.run(words, cwd=tree.root, env=environment(settings, tree), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{tree.name} does not train a champion: {done.stderr[-1_000:]}")
        return BenchmarkChampion(settings, Path(done.stdout.splitlines()[-1]))

    def create_topics(
        self,
        partitions: int,
        transactions: str | None = None,
        champion: BenchmarkChampion | None = None,
        **changes: object,
    ) -> Settings:
        """Create topics and a group; `transactions` reuses an existing transactions topic."""
        mark = uuid4().hex[:8]
        settings = msgspec.structs.replace(
            with_own_topics((champion or self.champion()).settings, f"{mark}-"),
            existing_transactions_topic=transactions,
            partitions=partitions,
            consumer_group=f"bench-{mark}",
            web_port=free_port(),
            **changes,
        )
        create_topics(self.bootstrap, topic_table(settings), 1)
        await_leaders(self.bootstrap, settings.transactions_topic, partitions)
        return settings

    def simulated_file(self, rows: int, seed: int = 1, days: int = 29) -> Path:
        """File of simulated transactions, one JSON object per line, with the data set's irregular formats."""
        path = self.folder / f"{rows}-{seed}-{days}.jsonl"
        if not path.exists():
            traffic = Traffic(rows=rows, seed=seed, days=days, signal=True)
            write(traffic, simulate(traffic), path)
        return path

    def fill(self, settings: Settings, path: Path) -> None:
        """Send the lines of a file to the transactions topic, partitioned by key as Kafka's clients do."""
        connection = ProduceConnection(self.bootstrap)
        waiting: dict[int, list[tuple[bytes | None, bytes]]] = {}

        def send(partition: int) -> None:
            batch = record_batch(waiting.pop(partition))
            connection.send(ProduceRequest(settings.transactions_topic, [(partition, batch)]).stamped())

        for partition, key, value in keyed_records(path, settings.partitions):
            waiting.setdefault(partition, []).append((key, value))
            if len(waiting[partition]) == FILL_BATCH:
                send(partition)
        for partition in list(waiting):
            send(partition)
        connection.finish()

    @contextlib.contextmanager
    def run_contender(
        self,
        program: str,
        settings: Settings,
        within_s: float = 1.0,
        core: int = CORES[0],
        *,
        bundle: Path | None = None,
        tree: Tree = THIS_TREE,
        options: Sequence[str] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Context manager: a contender on its own core: `tamiz`, or a module of `benchmarks.peers`.

        options: words before the peer's topics.
        """
        python = tree.peers_python if program in NEEDS_CONFLUENT else tree.python
        words = WORKERS.get(program, [])
        if not words:
            topics = settings.transactions_topic, settings.decisions_topic, settings.dead_letters_topic
            words = ["-m", f"benchmarks.peers.{program}", *options, self.bootstrap, *topics, settings.consumer_group]
            words += [str(within_s), str(bundle or self.bundle)]
        log = self.folder / f"{program}-{settings.consumer_group}-{core}.log"
        with log.open("wb") as output:
            command = ["taskset", "-c", str(core), str(python), *words]
            env = environment(settings, tree)
            process = subprocess.Popen(command, env=env, stdout=output, stderr=output, cwd=tree.root)
        try:
            yield process
            if process.poll() is not None:
                raise RuntimeError("the process ended")
        except Exception as error:
            end = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise RuntimeError(f"{program}: {error}; its log ends: {end[-500:]}") from error
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


def await_leaders(bootstrap: str, topic: str, partitions: int) -> None:
    """Wait until a new topic takes records: `ProduceConnection` does not retry."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    consumer.end_offsets([TopicPartition(topic, partition) for partition in range(partitions)])
    consumer.close()


def keyed_records(path: Path, partitions: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Partition, key and value of every line of a file."""
    with path.open("rb") as file:
        for line in file:
            value = line.rstrip(b"\n")
            start = value.index(KEY) + len(KEY)
            key = value[start : value.index(b'"', start)]
            yield _hash(key) % partitions, key, value


@lru_cache(maxsize=100_000)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def _profile(entity: str) -> str:
    return f'\n[[profiles]]\nentity = "{entity}"\nwindows = ["1h", "1d", "7d", "30d"]\nfeatures = {AGGREGATES}\n'


def environment(settings: Settings, tree: Tree = THIS_TREE) -> dict[str, str]:
    """Environment of a child process with these settings and one thread.

    Settings that have their default are not passed: another tree may not know them.
    """
    defaults = as_environment(load({}))
    changed = {name: value for name, value in as_environment(settings).items() if defaults.get(name) != value}
    return without_settings() | changed | ONE_THREAD | {"PYTHONPATH": str(tree.root)}


@contextlib.contextmanager
def benchmark_environment(
    scratch: Path | None = None, *, broker_gc_log: bool = False
) -> Iterator[BenchmarkEnvironment]:
    """Context manager: start a broker. Child processes inherit the last core."""
    os.sched_setaffinity(0, {CORES[-1]})
    with TemporaryDirectory(prefix="tamiz-bench-", dir=scratch) as made:
        folder = Path(made)
        with _java_options(f"-Xlog:gc:file={folder / GC_LOG}:timemillis" if broker_gc_log else ""):
            broker = EmbeddedBroker()
        with broker:
            yield BenchmarkEnvironment(broker.bootstrap_servers, folder)


@contextlib.contextmanager
def _java_options(options: str) -> Iterator[None]:
    before = os.environ.get("JDK_JAVA_OPTIONS")
    if options:
        os.environ["JDK_JAVA_OPTIONS"] = f"{before or ''} {options}".strip()
    try:
        yield
    finally:
        os.environ.pop("JDK_JAVA_OPTIONS", None)
        if before is not None:
            os.environ["JDK_JAVA_OPTIONS"] = before
