"""Takeover of a partition: `python -m benchmarks.components.takeover [--cards N] [--behind N] [--rate N]`.

A worker is given a partition on a real broker while transactions arrive at a rate. In a shared folder there is a
snapshot of the profiles, of as many cards, that is older than the committed offset by as many transactions: five
minutes at 2,000/s. Prints how long it takes from the assignment until the profiles are restored, and until the first
decision; the snapshot is read, checked and unpacked, and the transactions since are replayed.
"""

import argparse
import json
import re
import threading
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from benchmarks.components.profile_state import dataset_with_profiles
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.topics import topic_table
from scoring.input.cleaning import clean_payloads
from scoring.profiles.keys.key_state import KEYS, WATERMARK
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.kafka.replay import Message, connected, send
from stream_app.kafka.topic_admin import create_topics, topic_ids
from stream_app.kafka.topic_reader import assigned
from stream_app.profiles.snapshot_file import Snapshot, SnapshotPosition
from stream_app.profiles.snapshot_store import LocalFolder, SnapshotStore
from stream_app.registry.artifact_folder import ArtifactFolder
from tamiz.demo.demo_services import service_process
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.payload_formats import keyed_payloads, write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train

EVENTS = 60  # transactions of a card in the snapshot
STEP_MS = 12 * 3_600_000  # between them: 30 days
RESTORED = re.compile(r"profiles of partition 0 restored up to offset (\d+) in ([\d.]+) s: (-?\d+) keys, (\d+) records")


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.components.takeover", description=__doc__)
    parser.add_argument("--cards", type=int, default=1_000_000)
    parser.add_argument("--behind", type=int, default=600_000, help="transactions since the snapshot")
    parser.add_argument("--rate", type=int, default=2_000, help="transactions a second that arrive meanwhile")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="tamiz-bench-") as name, EmbeddedBroker() as broker:
        folder = Path(name)
        dataset_with_profiles(folder)
        settings = msgspec.structs.replace(
            load({}),
            bootstrap_servers=broker.bootstrap_servers,
            state_dir=folder / "state",
            profile_snapshot_root=str(folder / "shared"),
            dataset=str(folder / "with_profiles.toml"),
            partitions=1,
            log_format="json",
            web_port=free_port(),
        )
        past = Traffic(rows=20_000, seed=1, signal=True)
        write(past, simulate(past), folder / "history.csv")
        train(settings, folder / "history.csv", force="a benchmark needs a champion")
        create_topics(settings.bootstrap, topic_table(settings), 1)
        traffic = Traffic(rows=args.behind, seed=2, signal=True, payload_format="plain", days=1)
        payloads = [Message(key, value, None) for key, value in keyed_payloads(traffic)]
        first = clean_payloads(load_dataset(settings.dataset), [payloads[0].value or b""]).event_time_ms
        write_snapshot_of(settings, folder, args.cards, int(first[0]))
        with connected(settings.bootstrap) as producer:
            send(producer, settings.transactions_topic, payloads)
            commit(settings, args.behind)
            found = take_over(settings, folder, producer, payloads, args.rate)
    print(json.dumps({"cards": args.cards, "behind": args.behind, "rate": args.rate} | found, indent=1))


def write_snapshot_of(settings: Settings, folder: Path, cards: int, until_ms: int) -> None:
    """Put a snapshot of the first offset, of cards with a month of transactions, into the shared folder."""
    plan = ProfilePlan.of(load_dataset(settings.dataset))
    rng, n = np.random.default_rng(0), cards * EVENTS
    arrays = PartitionProfiles(plan).to_arrays()
    arrays["keys.totals"][[KEYS, WATERMARK]] = cards, until_ms
    arrays |= {
        "keys.hash": rng.integers(1, 1 << 63, cards).astype(np.uint64),
        "keys.base": np.full(cards, until_ms - EVENTS * STEP_MS),
        "keys.length": np.full(cards, EVENTS, np.int16),
        "keys.times": np.tile((np.arange(EVENTS) * STEP_MS).astype(np.uint32), cards),
        "keys.values": rng.lognormal(3, 1, (n, arrays["keys.values"].shape[1])).astype(np.float32),
        "keys.levels": np.zeros((n, arrays["keys.levels"].shape[1]), np.uint32),
        "keys.ids": rng.integers(0, 1 << 32, n if plan.has_ids else 0).astype(np.uint32),
    }
    topic = settings.transactions_topic
    position = SnapshotPosition(
        topic=topic,
        topic_id=topic_ids(settings.bootstrap, [topic])[topic],
        partition=0,
        next_offset=0,
        digest=plan.digest,
    )
    shared = ArtifactFolder(settings, str(folder / "shared"), setting="profile_snapshot_root")
    SnapshotStore(LocalFolder(folder / "elsewhere"), shared).save(Snapshot(position, arrays))


def commit(settings: Settings, offset: int) -> None:
    """Commit an offset for the workers' group, as the worker before did."""
    place = TopicPartition(settings.transactions_topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group, enable_auto_commit=False
    )
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
    consumer.close()


def take_over(
    settings: Settings, folder: Path, producer: object, payloads: list[Message], rate: int
) -> dict[str, float]:
    """Start a worker while transactions arrive; seconds from its assignment."""
    log, stopped = folder / "worker.log", threading.Event()
    arriving = (message for message in payloads if not stopped.is_set())
    sender = threading.Thread(target=send, args=(producer, settings.transactions_topic, arriving, rate))
    with (
        assigned(settings.bootstrap, settings.decisions_topic, from_beginning=True) as decisions,
        service_process("worker", settings, log) as worker,
    ):
        sender.start()
        first_ms = None
        while first_ms is None:
            if worker.poll() is not None:
                raise SystemExit(log.read_text(encoding="utf-8")[-3_000:])
            for records in decisions.poll(timeout_ms=200).values():
                first_ms = first_ms or records[0].timestamp
        stopped.set()
        sender.join()
    text = log.read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    found = [(record, match) for record in records if (match := RESTORED.search(record["message"]))]
    if len(found) != 1:
        raise SystemExit(text[-6_000:])
    ((restored, match),) = found
    return {
        "restored_s": float(match[2]),
        "keys": float(match[3]),
        "replayed": float(match[4]),
        "first_decision_after_restore_s": first_ms / 1000 - datetime.fromisoformat(restored["time"]).timestamp(),
    }


if __name__ == "__main__":
    main()
