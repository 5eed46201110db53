"""Fuzzing of every control topic on a real broker, read by the real services.

Afterwards each service must run and answer a valid record that was sent last, memory must have stayed flat, and the
commands that read these topics must work.
"""

import asyncio
import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import psutil
from kafka import KafkaProducer, TopicPartition

from chaos.control_services import PARTITIONS, GoodTraffic, Service, decisions, published_records, webhook, with_topics
from chaos.fuzz.control_letters import letters
from chaos.fuzz.control_records import hostile_records
from chaos.fuzz.good_records import LAST, handmade
from chaos.fuzz.raw_batches import RawProducer, RawRecord, encode_batch
from monitoring.drift.reference import load_reference
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TrainingError
from schemas.records import (
    Decision,
    DriftAlert,
    DriftReport,
    Label,
    ModelEvent,
    PaneSnapshot,
    Redrive,
    RetrainRequest,
)
from schemas.topics import topic_table
from stream_app.dashboard.topic_follower import TopicFollower
from stream_app.decisions.decision_explanation import explain
from stream_app.kafka.kafka_clients import RecordConsumer, client_config
from stream_app.monitor.monitor_loop import Monitor
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.pane_history import read_periods
from stream_app.redrive.redrive import redrive
from stream_app.worker.champion_cache import ChampionCache
from stream_app.worker.promotion_listener import listen_for_promotions
from tamiz.notifications.delivery_loop import consumer_group as notifier_group
from tamiz.notifications.notifier import serve as serve_notifier
from tamiz.services.history_reader import read_kafka_history
from tamiz.services.retrainer_service import serve as serve_retrainer

BATCH_RECORDS, BATCH_BYTES = 250, 600_000
DEADLINE_S = 600.0
QUIET_S = 3.0  # time without a skipped record after which everything has been read
GROWTH, GROWTH_MB = 1.3, 80.0  # maximum growth of memory, from a tenth of the records to all of them


class FuzzControlResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the run; `problems` is empty if every check passed."""

    records: int  # hostile records that the broker accepted
    refused: int  # batches that it refused
    skipped: dict[str, int]  # skipped by the monitor, by topic
    skipped_by_dashboard: int
    redriven: int
    memory_after_a_tenth_mb: float
    memory_at_the_end_mb: float
    monitor_start_s: float  # start time of a second monitor that reads all records
    problems: tuple[str, ...]
    seconds: float


def fuzz_control(settings: Settings, bootstrap: str, n: int, seed: int) -> FuzzControlResult:
    """Send n hostile records to each control topic. settings: of a registry with a champion."""
    with ExitStack() as stack:
        notified: list[bytes] = []
        url = stack.enter_context(webhook(notified))
        return _Run(with_topics(settings, bootstrap, url), n, seed, notified).run(stack)


class _Run:
    def __init__(self, settings: Settings, n: int, seed: int, notified: list[bytes]) -> None:
        self._s = settings
        self._n = n
        self._rng = random.Random(seed)
        self._notified = notified
        self._store = ChampionCache(settings, load_dataset(settings.dataset))
        self._store.open()
        self._good = GoodTraffic(settings, self._store.current, days=2, seed=seed + 1)
        self._metrics = MonitorMetrics()
        self._promoted: list[ModelEvent] = []
        self._problems: list[str] = []
        self._sent = self._refused = 0
        self._began_ms = int(time.time() * 1000)

    def run(self, stack: ExitStack) -> FuzzControlResult:
        s, began = self._s, time.monotonic()
        stop, ready = threading.Event(), threading.Event()
        stack.callback(stop.set)
        reader = TopicFollower(s)
        monitor = Monitor(s, self._store, self._metrics)
        services = [
            Service("monitor", lambda: monitor.run(stop, ready.set)),
            Service("notifier", lambda: serve_notifier(s, stop)),
            Service("retrainer", lambda: serve_retrainer(s, None, stop)),
            Service("promotions", lambda: asyncio.run(self._hear(stop))),
        ]
        for service in services:
            service.start()
        reader.start()
        templates = self._good.send(0)
        self._wait("the first evaluation", lambda: self._reports() != [])
        templates += [*self._reports()[-1:], *decisions(self._s), *handmade(s.model_name, self._store.current.version)]
        self._abort(templates)
        process = psutil.Process()
        self._attack(templates, self._n // 10)
        self._settle(reader)
        early = process.memory_info().rss / 1e6
        self._attack(templates, self._n - self._n // 10)
        self._settle(reader)
        late = process.memory_info().rss / 1e6
        if late > GROWTH * early + GROWTH_MB:
            self._problems.append(f"memory grew from {early:.0f} MB to {late:.0f} MB")
        self._check_services(services, reader)
        stop.set()
        reader.stop()
        for service in services:
            service.join(60)
            if service.is_alive() or service.failure is not None:
                self._problems.append(f"{service.name} did not stop, or failed: {service.failure!r}")
        redriven = self._check_commands()
        passed = {
            sample.labels["topic"]: int(sample.value)
            for metric in self._metrics.records_skipped.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
        return FuzzControlResult(
            records=self._sent,
            refused=self._refused,
            skipped=passed,
            skipped_by_dashboard=reader.live_state.skipped_records,
            redriven=redriven,
            memory_after_a_tenth_mb=round(early, 1),
            memory_at_the_end_mb=round(late, 1),
            monitor_start_s=self._restart_monitor(),
            problems=tuple(self._problems),
            seconds=round(time.monotonic() - began, 1),
        )

    def _attack(self, templates: list[msgspec.Struct], n: int) -> None:
        s = self._s
        topics = {
            s.drift_panes_topic: PaneSnapshot,
            s.decisions_topic: Decision,
            s.labels_topic: Label,
            s.drift_reports_topic: DriftReport,
            s.drift_alerts_topic: DriftAlert,
            s.model_events_topic: ModelEvent,
            s.retrain_requests_topic: RetrainRequest,
            s.redrives_topic: Redrive,
        }
        with RawProducer(s.bootstrap) as producer:
            for topic, of in topics.items():
                good = [record for record in templates if isinstance(record, of)]
                stream = hostile_records(
                    good, self._rng, model=s.model_name, version=self._store.current.version, now_ms=self._began_ms
                )
                self._send(producer, topic, stream, n)
            self._send(producer, s.dead_letters_topic, letters(self._s, self._rng), n)

    def _send(self, producer: RawProducer, topic: str, stream: Iterator[RawRecord], n: int) -> None:
        compacted = topic in (self._s.redrives_topic, self._s.drift_panes_topic)  # a broker requires keys for these
        partitions = 1 if topic in self._single else PARTITIONS
        batch: list[RawRecord] = []
        size = 0
        for i in range(n):
            record = next(stream)
            if compacted and record.key is None:
                record = record._replace(key=b"")
            batch.append(record)
            size += len(record.value or b"") + len(record.key or b"")
            if len(batch) < BATCH_RECORDS and size < BATCH_BYTES and i < n - 1:
                continue
            now_ms = int(time.time() * 1000)
            encoded = encode_batch(batch, codec=self._rng.randrange(5), timestamp=now_ms)
            error, _ = producer.send(topic, self._rng.randrange(partitions), encoded)
            self._refused += error != 0
            self._sent += 0 if error else len(batch)
            batch, size = [], 0

    @property
    def _single(self) -> set[str]:
        return {t.name for t in topic_table(self._s) if t.partitions == 1}

    def _abort(self, templates: list[msgspec.Struct]) -> None:
        """Send valid records in a Kafka transaction and abort it: no service may read them."""
        s = self._s
        producer = KafkaProducer(**client_config(s.bootstrap), transactional_id=f"fuzz-{uuid.uuid4().hex}")
        producer.init_transactions()
        producer.begin_transaction()
        for record in templates:
            if isinstance(record, DriftAlert):
                aborted = msgspec.structs.replace(record, incident_id="aborted", severity="critical")
                producer.send(s.drift_alerts_topic, msgspec.json.encode(aborted), key=b"k")
            if isinstance(record, ModelEvent):
                producer.send(s.model_events_topic, msgspec.json.encode(record), key=b"k")
        producer.flush()
        producer.abort_transaction()
        producer.close()

    def _check_services(self, services: list[Service], reader: TopicFollower) -> None:
        """Send a valid record of each kind last, and wait for its answer."""
        s, now_ms = self._s, int(time.time() * 1000)
        until = max((r.until_ms for r in self._reports()), default=0)
        alert, event, request = handmade(s.model_name, self._store.current.version, now_ms)[:3]
        self._good.send(1)
        producer = KafkaProducer(**client_config(s.bootstrap), acks="all")
        for topic, record in (
            (s.drift_alerts_topic, alert),
            (s.model_events_topic, event),
            (s.retrain_requests_topic, request),
        ):
            producer.send(topic, msgspec.json.encode(record), key=s.model_name.encode())
        producer.flush()
        producer.close()
        checks: dict[str, Callable[[], bool]] = {
            "monitor": lambda: any(r.until_ms > until for r in self._reports()),
            "monitor, labels": lambda: any(p.labelled for r in self._reports() if (p := r.performance) is not None),
            "notifier": lambda: any(LAST.encode() in body for body in self._notified),
            "retrainer": lambda: any(
                e.change == "training-started" and e.correlation_id == LAST for e in self._events()
            ),
            "promotions": lambda: any(e.reason == LAST for e in self._promoted),
            "page": lambda: (
                reader.is_alive()
                and any(i.incident_id == LAST for i in reader.live_state.incidents)
                and reader.live_state.events[0].reason in (LAST, "fuzz")
            ),
        }
        for name, is_answered in checks.items():
            self._wait(f"{name}: an answer to the last record", is_answered, services)
        if any(b"aborted" in body for body in self._notified):
            self._problems.append("the notifier sent an alert of an aborted transaction")

    def _check_commands(self) -> int:
        """Run the commands that read these topics; returns the number of dead letters that were sent back."""
        s, version = self._s, self._store.current.version
        dataset = load_dataset(s.dataset)
        result = redrive(s, dataset)
        if not result.sent_back:
            self._problems.append("no dead letter was sent back")
        reference = load_reference(self._store.folder(version))
        if not read_periods(s, reference.bins, "day", model_version=version):
            self._problems.append("no periods were read")
        try:
            read_kafka_history(s)
        except TrainingError as error:  # too many hostile transactions, or too few labels
            if "rejected" not in str(error):
                self._problems.append(f"training: {error}")
        decision = decisions(self._s)[0]
        if not explain(s, decision.decision_id).reproduced:
            self._problems.append("a valid decision was not reproduced")
        return result.sent_back

    def _restart_monitor(self) -> float:
        stop, ready = threading.Event(), threading.Event()
        service = Service("another monitor", lambda: Monitor(self._s, self._store).run(stop, ready.set))
        began = time.monotonic()
        service.start()
        self._wait("the start of another monitor", ready.is_set, [service])
        seconds = time.monotonic() - began
        stop.set()
        service.join(60)
        return round(seconds, 1)

    async def _hear(self, stop: threading.Event) -> None:
        async def hear() -> None:
            async with contextlib.aclosing(listen_for_promotions(self._s)) as events:
                async for event in events:
                    self._promoted.append(event)

        task = asyncio.create_task(hear())
        while not stop.is_set():
            await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _settle(self, reader: TopicFollower) -> None:
        """Wait until the services have read all records."""
        s = self._s
        groups = {
            notifier_group(s): (s.drift_alerts_topic, s.model_events_topic),
            f"{s.consumer_group}-retrainer": (s.retrain_requests_topic,),
        }
        for group, topics in groups.items():
            consumer = RecordConsumer(**client_config(s.bootstrap), group_id=group, enable_auto_commit=False)
            places = [TopicPartition(t, 0) for t in topics]

            def is_read(consumer: Any = consumer, places: list[TopicPartition] = places) -> bool:
                ends = consumer.end_offsets(places)
                return all((consumer.committed(p) or 0) >= ends[p] - 1 for p in places)

            self._wait(f"{group} to read everything", is_read)
            consumer.close()
        seen, since = -1, time.monotonic()
        deadline = since + DEADLINE_S
        while time.monotonic() - since < QUIET_S and time.monotonic() < deadline:
            now = reader.live_state.skipped_records + sum(
                int(sample.value) for m in self._metrics.records_skipped.collect() for sample in m.samples
            )
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.2)

    def _wait(self, what: str, is_done: Callable[[], bool], services: list[Service] | None = None) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_done():
            ended = [s.name for s in services or () if not s.is_alive()]
            if ended or time.monotonic() > deadline:
                self._problems.append(f"{what}: not within {DEADLINE_S:.0f} s; ended: {ended or 'none'}")
                return
            time.sleep(0.25)

    def _reports(self) -> list[DriftReport]:
        return published_records(self._s, self._store.current.version, self._s.drift_reports_topic, DriftReport)

    def _events(self) -> list[ModelEvent]:
        return published_records(self._s, self._store.current.version, self._s.model_events_topic, ModelEvent)
