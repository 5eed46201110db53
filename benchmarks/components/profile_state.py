"""The state of profiles: `python -m benchmarks.components.profile_state [--cards N] [--transactions N]`.

Memory, snapshot and restore of one partition's profiles in this process, and the replay of a topic on a real broker.
Times are of one core. Prints JSON.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.time_units import DAY_MS
from schemas.topics import topic_table
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import ProfileInputs, profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.handler import HandlerPolicy, clean_records
from stream_app.kafka import aiokafka_patch
from stream_app.kafka.replay import Message, connected, send
from stream_app.kafka.topic_admin import create_topics
from stream_app.profiles.input_replay import replay
from stream_app.profiles.snapshot_file import Snapshot, SnapshotPosition, read_snapshot, write_snapshot
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic

MB = 1 << 20
BATCH = 20_000  # transactions folded at once while the state is made
PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "1d", "7d", "30d"]
features = ["count", "sum(monto)", "mean(monto)", "max(monto)", "std(monto)"]
"""


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.components.profile_state", description=__doc__)
    parser.add_argument("--cards", type=int, default=1_000_000)
    parser.add_argument("--transactions", type=int, default=60, help="of a card in 30 days")
    parser.add_argument("--records", type=int, default=600_000, help="replayed: 5 minutes at 2,000/s")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="tamiz-bench-") as folder:
        dataset = dataset_with_profiles(Path(folder))
        of_a_snapshot(Path(folder), ProfilePlan.of(dataset), 1_000, 10)  # compiles
        found = of_a_snapshot(Path(folder), ProfilePlan.of(dataset), args.cards, args.transactions)
        found |= of_a_replay(dataset, args.records)
    print(json.dumps(found, indent=1))


def dataset_with_profiles(folder: Path) -> Dataset:
    """The shipped data set with profiles of the key: 4 windows, 5 aggregates."""
    shipped = resources.files("schemas.dataset").joinpath("card_transactions.toml").read_text(encoding="utf-8")
    path = folder / "with_profiles.toml"
    path.write_text(shipped + PROFILES, encoding="utf-8")
    return load_dataset(str(path))


def of_a_snapshot(folder: Path, plan: ProfilePlan, cards: int, transactions: int) -> dict[str, float]:
    """Memory of the state; time to copy, write, read and restore it."""
    rng = np.random.default_rng(1)
    hashes = rng.integers(1, 1 << 63, cards).astype(np.uint64)
    profiles = PartitionProfiles(plan)
    n = cards * transactions
    before, started = rss(), time.process_time()
    for at in range(0, n, BATCH):
        size = min(BATCH, n - at)
        profiles.update(
            ProfileInputs(
                event_time_ms=(np.arange(at, at + size) / n * 30 * DAY_MS).astype(np.int64),
                entities={"ID_USER": rng.choice(hashes, size)},
                values=rng.lognormal(3, 1, (size, len(plan.number_fields))).astype(np.float32),
                levels=np.zeros((size, len(plan.category_fields)), np.uint32),
                ids=rng.integers(1, 1 << 63, size).astype(np.uint64),
            ),
            at + size,
        )
    found = {"cards": float(cards), "transactions": float(n), "fold_s": time.process_time() - started}
    found |= {"bytes_per_card": profiles.counts.n_bytes / cards, "resident_bytes_per_card": (rss() - before) / cards}
    path = folder / "snapshot"
    save(path, plan, profiles, found)
    del profiles
    found["snapshot_mb"] = path.stat().st_size / MB
    snapshot, found["read_s"] = timed(lambda: read_snapshot(path))
    restored, found["rebuild_s"] = timed(lambda: PartitionProfiles.from_arrays(plan, dict(snapshot.arrays)))
    found["restore_s"] = found["read_s"] + found["rebuild_s"]
    assert restored.next_offset == n
    return {name: round(value, 3) for name, value in found.items()}


def save(path: Path, plan: ProfilePlan, profiles: PartitionProfiles, found: dict[str, float]) -> None:
    """Write a snapshot as a worker does: decisions wait for the copy only."""
    copying = profiles.begin_copy()
    _, found["copy_in_background_s"] = timed(copying.copy_events)
    copy, found["copy_pause_s"] = timed(copying.finish)
    arrays, found["compact_s"] = timed(copy.to_arrays)
    position = SnapshotPosition(
        topic="t", topic_id="", partition=0, next_offset=profiles.next_offset, digest=plan.digest
    )
    _, found["write_s"] = timed(lambda: write_snapshot(path, Snapshot(position, arrays)))


def of_a_replay(dataset: Dataset, records: int) -> dict[str, float]:
    """Records that a core replays in a second, and where the time goes."""
    plan = ProfilePlan.of(dataset)
    with EmbeddedBroker() as broker:
        settings = msgspec.structs.replace(load({}), bootstrap_servers=broker.bootstrap_servers, partitions=1)
        create_topics(settings.bootstrap, topic_table(settings), 1)
        traffic = Traffic(rows=records, seed=1, days=30, payload_format="plain")
        with connected(settings.bootstrap) as producer:
            send(
                producer,
                settings.transactions_topic,
                (Message(key, value, None) for key, value in keyed_payloads(traffic)),
            )
        aiokafka_patch.install({})
        policy = HandlerPolicy.from_settings(settings, dataset, counting=False)
        found: dict[str, float] = {}
        fold_all(settings, policy, plan, records, {})  # compiles
        started, began = time.process_time(), time.monotonic()
        parts = {"clean": 0.0, "inputs": 0.0, "fold": 0.0}
        fold_all(settings, policy, plan, records, parts)
        spent = time.process_time() - started
        found["replay_records_per_core_s"] = records / spent
        found["replay_s"] = time.monotonic() - began
        parts["read"] = spent - sum(parts.values())
        found |= {f"replay_{name}_us": seconds / records * 1e6 for name, seconds in parts.items()}
    return {name: round(value, 2) for name, value in found.items()}


def fold_all(settings: Settings, policy: HandlerPolicy, plan: ProfilePlan, end: int, parts: dict[str, float]) -> None:
    """Replay a partition into a new state. parts: CPU seconds by step, added to."""
    profiles = PartitionProfiles(plan)

    def fold(records: Sequence[Any], next_offset: int) -> None:
        times = [time.process_time()]
        cleaned, _ = clean_records(records, policy)
        times.append(time.process_time())
        inputs = profile_inputs(plan, cleaned)
        times.append(time.process_time())
        profiles.update(inputs, next_offset)
        times.append(time.process_time())
        for name, seconds in zip(("clean", "inputs", "fold"), np.diff(times).tolist(), strict=True):
            parts[name] = parts.get(name, 0.0) + seconds

    asyncio.run(
        replay(
            settings.bootstrap,
            settings.transactions_topic,
            0,
            until=lambda: end,
            first=lambda begin: begin,
            fold=fold,
        )
    )
    assert profiles.next_offset == end


def timed(call: Any) -> tuple[Any, float]:
    """The result of a call, and its duration in seconds."""
    started = time.monotonic()
    result = call()
    return result, time.monotonic() - started


def rss() -> int:
    """Resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
