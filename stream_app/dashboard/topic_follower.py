"""Thread that reads topics into the dashboard's folds, without a consumer group. Reconnects after failures."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError
from schemas.records import Decision, DriftAlert, DriftReport, ModelEvent, PaneSnapshot
from schemas.rule_report import RuleReport
from schemas.rules import ListEntry, RulesetRecord
from schemas.time_units import DAY_MS
from schemas.topics import MAX_RECORD_BYTES
from stream_app.dashboard.latency_sampler import LatencySampler
from stream_app.dashboard.live_state import LiveState
from stream_app.dashboard.psi_heatmap import PsiHeatmap
from stream_app.dashboard.rule_board import RuleBoard
from stream_app.decisions import dead_letters
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader, require_broker
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import ConsumedRecord, has_more_partitions
from stream_app.web.page_follower import PageFollower

log = logging.getLogger("tamiz.dashboard")

POLL_MS = 250
END_OFFSETS_INTERVAL_MS = 5_000  # also detects that the broker is gone
REQUEST_TIMEOUT_MS = 5_000
MAX_LAG_RECORDS = 20_000  # per partition of decisions; beyond that they are counted, not read
TAIL_RECORDS = {
    "decisions": 500,
    "dead-letters": 500,
    "drift-reports": 2_000,
    "drift-alerts": 2_000,
    "model-events": 1_000,
    "rule-statistics": 20,
}
WHOLE_TOPICS = frozenset({"rules", "lists"})  # compacted, or a history: read from the start


class TopicFollower(PageFollower):
    """Owns the folds. Readers must hold `lock`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("dashboard-reader", "topics", "no records have been read yet", log)
        self._settings = settings
        self._resume_at: dict[TopicPartition, int] = {}  # offsets to read next, after a reconnect
        self._roles: dict[str, str] = {
            settings.decisions_topic: "decisions",
            settings.dead_letters_topic: "dead-letters",
            settings.drift_reports_topic: "drift-reports",
            settings.drift_alerts_topic: "drift-alerts",
            settings.model_events_topic: "model-events",
            settings.drift_panes_topic: "drift-panes",
            settings.rules_topic: "rules",
            settings.lists_topic: "lists",
            settings.rule_statistics_topic: "rule-statistics",
        }
        self.live_state = LiveState(settings.model_name)
        self.heatmap = PsiHeatmap(settings.model_name)
        self.rules = RuleBoard(second_person=settings.rules_second_person)
        self.latencies = LatencySampler()
        self._intake = RecordIntake(settings, log, self._count_skipped)

    def _read(self) -> None:
        s = self._settings
        with ExitStack() as stack:
            with require_broker(s.bootstrap):
                consumer = _consumer(
                    s,
                    keep_bytes=MAX_RECORD_BYTES,  # of the records on drift-panes
                    max_poll_records=5_000,
                    fetch_max_wait_ms=POLL_MS,
                    metadata_max_age_ms=METADATA_MAX_AGE_MS,
                )
                stack.callback(consumer.close)
                transactions = _consumer(s, max_partition_fetch_bytes=64 * 1024, fetch_max_wait_ms=20)
                stack.callback(transactions.close)
            self._assign(consumer)
            checked_at_s = time.monotonic()
            while not self._stop_event.is_set():
                self._update(consumer.poll(timeout_ms=POLL_MS))
                if (time.monotonic() - checked_at_s) * 1000 >= END_OFFSETS_INTERVAL_MS:
                    self._skip_lag(consumer)
                    checked_at_s = time.monotonic()
                    if has_more_partitions(consumer):
                        log.info("partitions were added; reading them, too")
                        return
                self.latencies.sample(transactions, s.transactions_topic)
                with self.lock:
                    for latency_ms, at_ms in self.latencies.drain():
                        self.live_state.update_latency(latency_ms, at_ms, _now_ms())
                self.error = None

    def _assign(self, consumer: Any) -> None:
        partitions = [TopicPartition(t, p) for t in self._roles for p in sorted(consumer.partitions_for_topic(t) or ())]
        for topic in self._roles:
            if topic not in {p.topic for p in partitions}:
                raise BrokerError(f"topic {topic} does not exist; `tamiz topics create` creates it")
        consumer.assign(partitions)
        begins = consumer.beginning_offsets(partitions, timeout_ms=REQUEST_TIMEOUT_MS)
        ends = consumer.end_offsets(partitions, timeout_ms=REQUEST_TIMEOUT_MS)
        panes = {p: _now_ms() - DAY_MS for p in partitions if self._roles[p.topic] == "drift-panes"}
        since = consumer.offsets_for_times(panes, timeout_ms=REQUEST_TIMEOUT_MS)
        for tp in partitions:
            if self._roles[tp.topic] in WHOLE_TOPICS:
                start = begins[tp]
            elif tp in panes:
                start = since[tp].offset if since.get(tp) else ends[tp]
            else:
                start = ends[tp] - TAIL_RECORDS[self._roles[tp.topic]]
            consumer.seek(tp, max(begins[tp], self._resume_at.get(tp, start)))

    def _skip_lag(self, consumer: Any) -> None:
        """Skip to near the end where the lag is too large; count the skipped decisions.

        Raises KafkaError without a broker.
        """
        decisions = [p for p in consumer.assignment() if self._roles[p.topic] == "decisions"]
        for tp, end in consumer.end_offsets(decisions, timeout_ms=REQUEST_TIMEOUT_MS).items():
            start = end - TAIL_RECORDS["decisions"]
            if (lag := start - consumer.position(tp)) > MAX_LAG_RECORDS:
                consumer.seek(tp, start)
                with self.lock:
                    self.live_state.update_unread(lag, _now_ms())

    def _update(self, batches: Mapping[TopicPartition, list[ConsumedRecord]]) -> None:
        now_ms = _now_ms()
        for tp, records in batches.items():
            handle = self._handlers[self._roles[tp.topic]]
            for start in range(0, len(records), 200):  # in chunks, so that the lock is held briefly
                with self.lock:
                    for record in records[start : start + 200]:
                        try:
                            handle(self, record, now_ms)
                        except Exception as error:  # an internal error must not stop the reader
                            self._intake.skip(record, repr(error))
            self._resume_at[tp] = records[-1].offset + 1

    def _count_skipped(self, topic: str) -> None:
        self.live_state.skipped_records += 1

    def _decision(self, record: ConsumedRecord, now_ms: int) -> None:
        if (decision := self._intake.read_ours(record, Decision)) is not None:
            self.live_state.update_decision(decision, record.timestamp, now_ms)
            self.latencies.update(record)

    def _dead_letter(self, record: ConsumedRecord, now_ms: int) -> None:
        about = dead_letters.read(record.headers)
        self.live_state.update_dead_letter(about.code if about else "unknown", record.timestamp, now_ms)

    def _report(self, record: ConsumedRecord, now_ms: int) -> None:
        if (report := self._intake.read_ours(record, DriftReport)) is not None:
            self.heatmap.update_report(report)

    def _alert(self, record: ConsumedRecord, now_ms: int) -> None:
        if (alert := self._intake.read_ours(record, DriftAlert)) is not None:
            self.live_state.update_alert(alert)

    def _event(self, record: ConsumedRecord, now_ms: int) -> None:
        if (event := self._intake.read_ours(record, ModelEvent)) is not None:
            self.live_state.update_model_event(event)

    def _pane(self, record: ConsumedRecord, now_ms: int) -> None:
        if (snapshot := self._intake.read_ours(record, PaneSnapshot)) is not None:
            self.heatmap.update_panes(snapshot)

    def _ruleset(self, record: ConsumedRecord, now_ms: int) -> None:
        if (ruleset := self._intake.read(record, RulesetRecord)) is not None:
            from stream_app.rules.ruleset_records import compile_fault  # loads Numba

            dataset = load_dataset(self._settings.dataset)
            self.rules.add_ruleset(ruleset, record.value or b"", compile_fault(dataset))

    def _entry(self, record: ConsumedRecord, now_ms: int) -> None:
        if (entry := self._intake.read(record, ListEntry)) is not None:
            self.rules.add_entry(entry)

    def _rule_report(self, record: ConsumedRecord, now_ms: int) -> None:
        if (report := self._intake.read_ours(record, RuleReport)) is not None:
            self.rules.add_report(report)

    _handlers: Mapping[str, Callable[["TopicFollower", ConsumedRecord, int], None]] = {
        "decisions": _decision,
        "dead-letters": _dead_letter,
        "drift-reports": _report,
        "drift-alerts": _alert,
        "model-events": _event,
        "drift-panes": _pane,
        "rules": _ruleset,
        "lists": _entry,
        "rule-statistics": _rule_report,
    }


def _consumer(settings: Settings, **changes: Any) -> Any:
    return reader(settings.bootstrap, auto_offset_reset="latest", bootstrap_timeout_ms=15_000, **changes)


def _now_ms() -> int:
    return int(time.time() * 1000)
