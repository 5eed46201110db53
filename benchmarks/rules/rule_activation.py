"""Time from an activation to its effect: `python -m benchmarks.rules.rule_activation`.

One worker decides a steady stream. A ruleset of 100 rules is activated many times; its effect is the first decision by
it in the last one of all partitions. Then cards are blocked by entries of a list; the effect is the first decision by
the list, of transactions of that card that are sent every 10 ms.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaProducer, TopicPartition

from chaos.input_log import InputProducer
from chaos.rule_changes import CONDITIONS, RuleTopics, rule
from chaos.run import own_topics
from chaos.worker_pool import WorkerPool
from schemas.configuration.settings import Settings, load
from schemas.rules import RulesFile
from stream_app.kafka.kafka_clients import reader
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tamiz.simulation.payload_formats import keyed_payloads, write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train

PARTITIONS = 4
CARDS_FROM = 9_000_000  # cards of no other transaction
MAX_WAIT_S = 30.0
RULES = RulesFile(
    rules=tuple(
        rule(CONDITIONS[i % len(CONDITIONS)].format(share=i / 100, amount=10.0 * i), id_=f"r{i}") for i in range(100)
    )
)


class DecidedBy(msgspec.Struct):
    """What the benchmark reads of a decision."""

    ruleset: int | None
    decided_by: str
    transaction_id: str


def main() -> None:
    """Print quantiles of both times, in milliseconds, as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.rules.rule_activation", description=__doc__)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--processing-guarantee", choices=("at-least-once", "exactly-once"), default="at-least-once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tamiz-bench-") as folder, EmbeddedBroker() as broker:
        settings = msgspec.structs.replace(
            load({}), state_dir=Path(folder), processing_guarantee=options.processing_guarantee
        )
        traffic = Traffic(rows=8_000, seed=1, signal=True)
        write(traffic, simulate(traffic), Path(folder) / "history.csv")
        train(settings, Path(folder) / "history.csv", force="a benchmark needs a champion")
        settings = own_topics(settings, broker.bootstrap_servers, PARTITIONS)
        with WorkerPool(settings, Path(folder), 1):
            found = measured(settings, options.changes, options.rate)
    print(json.dumps({"processing_guarantee": options.processing_guarantee, "rate": options.rate} | found))


def measured(settings: Settings, changes: int, rate: float) -> dict[str, Any]:
    """Quantiles of the times of rulesets and of entries."""
    feed = InputProducer(settings, n=10_000_000, seed=3, invalid_share=0.0, rate=rate)
    feed.flow.set()
    feed.start()
    topics, decisions = RuleTopics(settings), Decisions(settings)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    try:
        decisions.wait(lambda seen: len({partition for partition, _ in seen}) == PARTITIONS, 300)
        return {
            "ruleset_ms": quantiles([ruleset_s(topics, decisions) for _ in range(changes)]),
            "entry_ms": quantiles([entry_s(settings, topics, decisions, producer, i) for i in range(changes)]),
        }
    finally:
        producer.close()
        topics.close()
        decisions.close()


def ruleset_s(topics: RuleTopics, decisions: "Decisions") -> float:
    """Activate a ruleset; the time until all partitions are decided by it."""
    started = time.monotonic()
    number = topics.add_ruleset(RULES)
    held: set[int] = set()

    def is_held(seen: list[tuple[int, DecidedBy]]) -> bool:
        held.update(partition for partition, decision in seen if decision.ruleset == number)
        return len(held) == PARTITIONS

    decisions.wait(is_held, MAX_WAIT_S)
    return time.monotonic() - started


def entry_s(settings: Settings, topics: RuleTopics, decisions: "Decisions", producer: Any, number: int) -> float:
    """Block a card; the time until a transaction of it is decided by the list."""
    card = CARDS_FROM + number
    ((_, payload),) = keyed_payloads(Traffic(rows=1, seed=number))
    value = msgspec.json.encode(msgspec.json.decode(payload) | {"ID_USER": card})
    started = time.monotonic()
    topics.add_entry(str(card), "blocked", "block")

    def is_blocked(seen: list[tuple[int, DecidedBy]]) -> bool:
        producer.send(settings.transactions_topic, value, key=b"%d" % card)
        return any(decision.decided_by == "list" for _, decision in seen)

    decisions.wait(is_blocked, MAX_WAIT_S)
    found = time.monotonic() - started
    producer.flush()
    decisions.wait(lambda seen: not any(decision.decided_by == "list" for _, decision in seen), MAX_WAIT_S)
    return found


class Decisions:
    """Reads decisions as they come."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = reader(settings.bootstrap, fetch_max_wait_ms=10, auto_offset_reset="earliest")
        self._consumer.assign([TopicPartition(settings.decisions_topic, p) for p in range(PARTITIONS)])

    def wait(self, is_over: Callable[[list[tuple[int, DecidedBy]]], bool], seconds: float) -> None:
        """Read until the decisions of a poll, with their partitions, are what is waited for."""
        until = time.monotonic() + seconds
        while not is_over(self._poll()):
            if time.monotonic() > until:
                raise TimeoutError(f"no effect within {seconds} s")

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _poll(self) -> list[tuple[int, DecidedBy]]:
        found = self._consumer.poll(timeout_ms=10)
        return [(tp.partition, msgspec.json.decode(r.value, type=DecidedBy)) for tp, rs in found.items() for r in rs]


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Quantiles in milliseconds."""
    return {f"p{q}": round(float(np.percentile(seconds, q)) * 1000, 1) for q in (50, 90, 99, 100)}


if __name__ == "__main__":
    main()
