"""Consumes the monitor's topics: panes in watermark order; decisions and labels go to the context of alerts and, with
rulesets, to the statistics of rules.

At the start the history is read in step: otherwise a partition that is read far ahead makes the others look idle.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from kafka import TopicPartition

from monitoring.drift.context import AlertContext
from monitoring.performance.rolling_metrics import PerformancePolicy
from monitoring.performance.rule_performance import RulePerformance
from schemas.configuration.settings import Settings
from schemas.records import PaneSnapshot
from schemas.rules import RulesetRecord
from schemas.time_units import DAY_MS
from schemas.topics import MAX_RECORD_BYTES
from scoring.rules.ruleset_log import RulesetLog
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader
from stream_app.kafka.topic_reader import ConsumedRecord, has_more_partitions
from stream_app.monitor.monitor_intake import MonitorIntake, start_offsets
from stream_app.monitor.rule_monitor import restore_rules

MAX_WINDOW_MS = 8 * DAY_MS  # the longest window, plus a day for late panes
MAX_BUFFERED_RECORDS = 500  # snapshots of one partition that are read ahead of the others
# A poll must return everything that is fetched: kafka-python 3.0 loses the rest of a partly returned fetch when its
# partition is paused and resumed.
MAX_POLL_RECORDS = 1_000_000
MAX_KEY_BYTES = 256  # of a card; a longer one is stored as its digest
DIGEST_MARK = b"\xff"  # before a digest: so it is no UTF-8 and is not mistaken for a key
# At the start, no more is read than a running monitor remembers: 200,000 decisions, and labels without decision. The
# decision of an older label is not known, before and after a restart.
DECISIONS_AT_START = PerformancePolicy().remembered
LABELS_AT_START = DECISIONS_AT_START + PerformancePolicy().early

ReadSnapshot = tuple[ConsumedRecord, PaneSnapshot]


class MonitorInput:
    """The consumer of panes, decisions and labels."""

    def __init__(self, settings: Settings, intake: MonitorIntake, on_poll: Callable[[], None]) -> None:
        """on_poll: called before each poll. Raises KafkaError if the broker does not respond."""
        self._settings = settings
        self._intake = intake
        self._on_poll = on_poll
        self._context = AlertContext()
        self._rules = RulePerformance(settings.model_name)
        self._log = RulesetLog()
        self._add: dict[str, Callable[[ConsumedRecord], None]] = {
            settings.decisions_topic: self._add_decision,
            settings.labels_topic: self._add_label,
            settings.rules_topic: self._add_ruleset,
        }
        self._consumer = reader(
            settings.bootstrap,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8 * 1024 * 1024,
            max_poll_records=MAX_POLL_RECORDS,
            keep_bytes=MAX_RECORD_BYTES,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        self.partitions = 0  # of `drift-panes`
        self.replayed: frozenset[int] = frozenset()  # partitions of `drift-panes` whose history is read to its end

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def has_more_partitions(self) -> bool:
        """Whether a topic has partitions that are not assigned."""
        return has_more_partitions(self._consumer)

    def assign(self, context: AlertContext) -> RulePerformance:
        """Assign all partitions, positioned where the history begins. context: receives decisions and labels.

        Returns the statistics of rules as last published, which receive them, too.
        """
        self._context = context
        s, now = self._settings, int(time.time() * 1000)
        since = {
            s.drift_panes_topic: now - MAX_WINDOW_MS,
            s.decisions_topic: now - s.drift_lookback_days * DAY_MS,
            s.labels_topic: now - s.drift_lookback_days * DAY_MS,
            s.rules_topic: 0,
        }
        wanted = {
            TopicPartition(topic, p): start
            for topic, start in since.items()
            for p in sorted(self._consumer.partitions_for_topic(topic) or ())
        }
        self.partitions = sum(p.topic == s.drift_panes_topic for p in wanted)
        self._consumer.assign(list(wanted))
        ends = self._consumer.end_offsets(list(wanted))
        found = self._consumer.offsets_for_times(wanted)
        starts = {
            p: found[p].offset if found[p] is not None else ends[p] for p in wanted
        }  # None: all records are older
        for topic, most in ((s.decisions_topic, DECISIONS_AT_START), (s.labels_topic, LABELS_AT_START)):
            starts |= start_offsets({p: (starts[p], ends[p]) for p in wanted if p.topic == topic}, most)
        for partition, start in starts.items():
            self._consumer.seek(partition, start)
            self._consumer.position(partition)
        counted = {p: end for p, end in ends.items() if p.topic in (s.decisions_topic, s.labels_topic)}
        self._log = RulesetLog()
        self._rules = restore_rules(s, self._intake.records, counted)
        return self._rules

    def replay(self, stop: threading.Event) -> Iterator[ReadSnapshot]:
        """The snapshots that exist at the time of the call, in watermark order over all partitions."""
        consumer = self._consumer
        ends = consumer.end_offsets(list(consumer.assignment()))
        buffered: dict[int, deque[ReadSnapshot]] = {p: deque() for p in range(self.partitions)}
        while not stop.is_set():
            unread = {p for p, end in ends.items() if consumer.position(p) < end}
            panes = {p for p in unread if p.topic == self._settings.drift_panes_topic}
            behind = {p.partition for p in panes if not buffered[p.partition]}
            if not behind and any(buffered.values()):
                unfinished = {p.partition for p in panes} | {p for p, queue in buffered.items() if queue}
                self.replayed = frozenset(buffered.keys() - unfinished)
                yield min((q for q in buffered.values() if q), key=lambda q: q[0][1].watermark_ms).popleft()
                continue
            if not unread:
                return
            full = {p for p in panes if len(buffered[p.partition]) > MAX_BUFFERED_RECORDS}
            consumer.pause(*full)
            for found in self.poll():
                buffered[found[0].partition].append(found)
            consumer.resume(*full)

    def poll(self) -> list[ReadSnapshot]:
        """Poll once: add decisions, labels and rulesets, return snapshots in watermark order."""
        s, intake = self._settings, self._intake
        panes: list[ConsumedRecord] = []
        self._on_poll()
        for partition, records in self._consumer.poll(timeout_ms=500).items():
            if partition.topic == s.drift_panes_topic:
                panes += records
                continue
            for record in records:
                try:
                    self._add[partition.topic](record)
                except Exception as error:  # a bug must not stop the monitor
                    intake.records.skip(record, repr(error))
        return sorted(intake.snapshots(panes), key=lambda found: found[1].watermark_ms)

    def _add_decision(self, record: ConsumedRecord) -> None:
        if (decision := self._intake.decision(record)) is not None:
            key = record.key or b""
            card = key if len(key) <= MAX_KEY_BYTES else DIGEST_MARK + hashlib.sha256(key).digest()
            self._context.add_decision(card, decision)
            self._rules.add_decision(decision, record.partition, record.offset)

    def _add_label(self, record: ConsumedRecord) -> None:
        if (label := self._intake.label(record)) is not None:
            self._context.add_label(label)
            self._rules.add_label(label, record.partition, record.offset)

    def _add_ruleset(self, record: ConsumedRecord) -> None:
        if (ruleset := self._intake.records.read(record, RulesetRecord)) is None:
            return
        # A ruleset that does not compile is named by no decision, so it needs no check.
        log = self._log.updated(ruleset, record.value or b"", second_person=False, compile_fault=lambda content: None)
        self._log = log._replace(entries=log.entries[-1:])
        if log.entries[-1].in_chain:
            self._rules.add_ruleset(ruleset)
