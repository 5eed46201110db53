"""Start time of `tamiz monitor`: `python -m benchmarks.components.monitor_start`.

The embedded broker has decisions within the lookback period. The monitor reads all of them, and then only as many as
it keeps in memory.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from chaos.fuzz.raw_batches import RawProducer, RawRecord, encode_batch
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision, Label, Reason
from schemas.topics import topic_table
from stream_app.kafka.topic_admin import create_topics
from stream_app.monitor import monitor_input
from stream_app.monitor.monitor_loop import Monitor
from stream_app.worker.champion_cache import ChampionCache
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train

BATCH_RECORDS = 1_000
LABELLED = 10  # one decision in this many has a label


def main() -> None:
    """Print both times, in seconds, as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.components.monitor_start", description=__doc__)
    parser.add_argument("--decisions", type=int, default=500_000)
    n = parser.parse_args().decisions
    with tempfile.TemporaryDirectory(prefix="tamiz-bench-") as folder, EmbeddedBroker() as broker:
        settings = msgspec.structs.replace(
            load({}), bootstrap_servers=broker.bootstrap_servers, state_dir=Path(folder), partitions=4
        )
        create_topics(settings.bootstrap, topic_table(settings), 1)
        traffic = Traffic(rows=8_000, seed=1, signal=True)
        write(traffic, simulate(traffic), Path(folder) / "history.csv")
        train(settings, Path(folder) / "history.csv", force="a benchmark needs a champion")
        produce(settings, n)
        kept = monitor_input.DECISIONS_AT_START, monitor_input.LABELS_AT_START
        monitor_input.DECISIONS_AT_START = monitor_input.LABELS_AT_START = 2 * n
        everything = start_s(settings)
        monitor_input.DECISIONS_AT_START, monitor_input.LABELS_AT_START = kept
        found = {"decisions": n, "everything_s": everything, "what_is_remembered_s": start_s(settings)}
    print(json.dumps(found))


def produce(settings: Settings, n: int) -> None:
    """Produce decisions on all partitions, and labels of some."""
    now_ms = int(time.time() * 1000)
    with RawProducer(settings.bootstrap) as producer:
        for start in range(0, n, BATCH_RECORDS):
            numbers = range(start, min(start + BATCH_RECORDS, n))
            decisions = [
                RawRecord(msgspec.json.encode(decision(i, settings.model_name, now_ms)), b"%d" % (i % 997))
                for i in numbers
            ]
            labels = [
                RawRecord(msgspec.json.encode(Label(transaction_id=f"t{i}", fraud=i % 50 == 0, reported_at_ms=now_ms)))
                for i in numbers
                if i % LABELLED == 0
            ]
            partition = start // BATCH_RECORDS % settings.partitions
            for topic, records in ((settings.decisions_topic, decisions), (settings.labels_topic, labels)):
                error, _ = producer.send(topic, partition, encode_batch(records, codec=4, timestamp=now_ms))
                assert error == 0, error


def decision(i: int, model: str, now_ms: int) -> Decision:
    """One decision; every fiftieth is a review, with its reasons."""
    flagged = i % 50 == 0
    reason = Reason(feature="monto", value=912.3, contribution=1.2, text="monto 912.3: multiplies the odds by 3.32")
    return Decision(
        decision_id=f"00000000-0000-5000-8000-{i:012d}",
        transaction_id=f"t{i}",
        score=0.9 if flagged else (i % 89) / 100,
        outcome="review" if flagged else "approve",
        model_outcome="review" if flagged else "approve",
        decided_by="model",
        exploration_share=None,
        ruleset=None,
        threshold=0.89 if flagged else 0.0,
        reasons=(reason, reason, reason) if flagged else (),
        model=model,
        model_version=1,
        event_time_ms=now_ms - 1_000,
    )


def start_s(settings: Settings) -> float:
    """Seconds from creating a monitor until it is ready."""
    store = ChampionCache(settings, load_dataset(settings.dataset))
    store.open()
    over, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=Monitor(settings, store).run, args=(over, ready.set))
    began = time.monotonic()
    thread.start()
    assert ready.wait(3_600)
    seconds = time.monotonic() - began
    over.set()
    thread.join()
    return round(seconds, 1)


if __name__ == "__main__":
    main()
