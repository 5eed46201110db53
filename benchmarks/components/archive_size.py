"""Disk of the decision log: `python -m benchmarks.components.archive_size [--rates 200 2000] [--rows N]`.

A worker decides transactions on a real broker, with 20 profile features and four partitions. Prints, for each rate and
topic, the bytes a record in Kafka (one replica) and in the archive, and the CPU time to archive a record. At low rates
batches are small and compress less.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.components.profile_state import dataset_with_profiles
from schemas.configuration.settings import Settings, load
from schemas.time_units import DAY_MS
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.replay import Message, connected, send
from stream_app.kafka.topic_admin import create_topics
from stream_app.kafka.topic_reader import assigned
from tamiz.archive.archiver import archive
from tamiz.demo.demo_services import ready_service
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.payload_formats import keyed_payloads, write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.components.archive_size", description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 2_000], help="transactions a second")
    parser.add_argument("--rows", type=int, default=40_000)
    args = parser.parse_args()
    with TemporaryDirectory(prefix="tamiz-bench-") as name, EmbeddedBroker(folder=Path(name) / "kafka") as broker:
        folder = Path(name)
        dataset_with_profiles(folder)
        settings = msgspec.structs.replace(
            load({}),
            bootstrap_servers=broker.bootstrap_servers,
            state_dir=folder / "state",
            dataset=str(folder / "with_profiles.toml"),
        )
        past = Traffic(rows=20_000, seed=1, signal=True)
        write(past, simulate(past), folder / "history.csv")
        train(settings, folder / "history.csv", force="a benchmark needs a champion")
        found = {f"{rate}/s": of_a_rate(settings, folder, rate, args.rows) for rate in args.rates}
    print(json.dumps(found, indent=1))


def of_a_rate(settings: Settings, folder: Path, rate: int, rows: int) -> dict[str, float]:
    """Bytes a record on topics and in the archive."""
    mark = f"at-{rate}-"
    settings = msgspec.structs.replace(
        with_own_topics(settings, mark),
        consumer_group=mark,
        web_port=free_port(),
        archive_root=str(folder / f"{mark}archive"),
    )
    create_topics(settings.bootstrap, topic_table(settings), 1)
    traffic = Traffic(rows=rows, seed=2, signal=True, payload_format="plain")
    page = f"http://127.0.0.1:{settings.web_port}/readyz"
    with (
        ready_service("worker", page, settings, folder / "worker.log"),
        assigned(settings.bootstrap, settings.decisions_topic, from_beginning=True) as decisions,
        connected(settings.bootstrap) as producer,
    ):
        messages = (Message(key, value, None) for key, value in keyed_payloads(traffic))
        send(producer, settings.transactions_topic, messages, rate)
        decided = 0
        while decided < rows:
            decided += sum(map(len, decisions.poll(timeout_ms=500).values()))
    began = time.process_time()
    result = archive(settings, now_ms=int(time.time() * 1000) + 2 * DAY_MS)
    seconds = time.process_time() - began
    found = {"archive_us_per_record": seconds / sum(f.records for f in result.files) * 1e6}
    for topic in (settings.decisions_topic, settings.feature_log_topic):
        logs = (folder / "kafka").rglob(f"{topic}-*/*.log")
        name = topic.removeprefix(mark)
        found[f"{name}_bytes"] = sum(log.stat().st_size for log in logs) / rows
        found[f"{name}_archive_bytes"] = sum(f.bytes for f in result.files if f.topic == topic) / rows
    return {name: round(value, 1) for name, value in found.items()}


if __name__ == "__main__":
    main()
