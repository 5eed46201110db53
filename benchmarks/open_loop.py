"""Sends transactions on schedule and reads their decisions: latency without coordinated omission (.venv-bench).

What is measured runs from the moment at which a transaction was due, whether or not its sender was in time, to the
moment at which its decision was read. One that never came back counts as infinitely late.
"""

import gc
import json
import math
import sys
import threading
import time
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

WARM_UP_S = 3.0  # sent, but not measured
DRAIN_TIMEOUT_S = 5.0  # for the last decisions
MARK = b'"transaction_id":"'


def main() -> None:
    bootstrap, transactions, decisions, rate, seconds, path, linger = sys.argv[1:]
    print(json.dumps(run_paced(bootstrap, transactions, decisions, int(rate), float(seconds), Path(path), int(linger))))


def run_paced(
    bootstrap: str, transactions: str, decisions: str, rate: int, seconds: float, path: Path, linger_ms: int
) -> dict[str, Any]:
    """Percentiles in milliseconds, and the maximum per tenth of a second."""
    lines = [line.rstrip(b"\n")[1:] for line in path.open("rb")]
    listener = Consumer({"bootstrap.servers": bootstrap, "group.id": f"paced-{uuid4().hex}", "fetch.wait.max.ms": 50})
    places = listener.list_topics(decisions).topics[decisions].partitions
    listener.assign([TopicPartition(decisions, p, _end(listener, decisions, p)) for p in places])
    listener.poll(0.5)
    total = int(rate * (WARM_UP_S + seconds))
    received = [math.inf] * total
    gc.disable()
    start = time.monotonic() + 0.2
    arguments = bootstrap, transactions, lines, start, rate, total, linger_ms
    sender = threading.Thread(target=_send, args=arguments, daemon=True)
    sender.start()
    n_received, until = 0, start + total / rate + DRAIN_TIMEOUT_S
    while n_received < total and time.monotonic() < until:
        message = listener.poll(0.1)
        if message is None or message.error():
            continue
        value = message.value()
        place = value.index(MARK) + len(MARK)
        received[int(value[place : value.index(b'"', place)])] = time.monotonic()
        n_received += 1
    measured = range(int(rate * WARM_UP_S), total)
    late = [1e3 * (received[i] - start - i / rate) for i in measured]
    tenths: dict[int, float] = {}
    for i, ms in zip(measured, late, strict=True):
        tenth = int(10 * (i / rate - WARM_UP_S))
        tenths[tenth] = max(tenths.get(tenth, 0.0), ms)
    late.sort()
    return {
        "sent": len(late),
        "never_heard": sum(math.isinf(ms) for ms in late),
        "ms": {f"p{q:g}": _at(late, q) for q in (50, 95, 99, 99.9)},
        "worst_ms": [_finite(ms) for _, ms in sorted(tenths.items())],
        "judged_from": time.time() - time.monotonic() + start + WARM_UP_S,
    }


def _send(bootstrap: str, topic: str, lines: list[bytes], start: float, rate: int, total: int, linger_ms: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": linger_ms, "partitioner": "murmur2_random"})
    texts = cycle(lines)
    for i in range(total):
        due = start + i / rate
        while (ahead := due - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(ahead, 0.001))
        producer.produce(topic, b'{"transaction_id":"%d",%b' % (i, next(texts)), b"%d" % (i % 4000))
    producer.flush()


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    return int(consumer.get_watermark_offsets(TopicPartition(topic, partition))[1])


def _at(late: list[float], q: float) -> float | None:
    return _finite(late[min(len(late) - 1, math.ceil(q / 100 * len(late)))])


def _finite(ms: float) -> float | None:
    return None if math.isinf(ms) else round(ms, 3)


if __name__ == "__main__":
    main()
