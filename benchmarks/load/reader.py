"""Reads decisions and notes when (.venv-bench): `python -m benchmarks.load.reader BOOTSTRAP TOPIC TOTAL SECONDS FILE`.

It prints `ready` when it reads, and ends when it has read TOTAL decisions, or SECONDS later. A decision counts as read
when the client library has delivered it; one that belongs to an open Kafka transaction is not delivered. Of a decision,
only the id of its transaction is parsed, which names partition and offset.
"""

import gc
import sys
import time
from array import array
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

MARK = b'"transaction_id":"'
MAX_BATCH = 10_000


def main() -> None:
    bootstrap, topic, total, seconds, path = sys.argv[1:]
    read(bootstrap, topic, int(total), float(seconds), Path(path))


def read(bootstrap: str, topic: str, total: int, seconds: float, path: Path) -> None:
    """Write partition, offset and time of each decision, one array after the other."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{uuid4().hex}",
            "fetch.wait.max.ms": 100,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
        }
    )
    places = consumer.list_topics(topic).topics[topic].partitions
    ends = [
        TopicPartition(topic, p, consumer.get_watermark_offsets(TopicPartition(topic, p))[1]) for p in sorted(places)
    ]
    consumer.assign(ends)
    consumer.poll(0.2)
    until = time.monotonic() + seconds
    print("ready", flush=True)
    partitions, offsets, times = array("q"), array("q"), array("d")
    gc.disable()
    while len(times) < total and time.monotonic() < until:
        first = consumer.poll(0.1)
        if first is None:
            continue
        now = time.monotonic()
        for message in (first, *consumer.consume(MAX_BATCH, 0)):
            if message.error():
                continue
            value = message.value()
            start = value.find(MARK) + len(MARK)
            end = value.find(b'"', start)
            partition, _, offset = value[start:end].partition(b"@")[0].rpartition(b"-")
            partitions.append(int(partition[partition.rfind(b"-") + 1 :]))
            offsets.append(int(offset))
            times.append(now)
    path.write_bytes(partitions.tobytes() + offsets.tobytes() + times.tobytes())
    consumer.close()


if __name__ == "__main__":
    main()
