"""The demo's run: training, services, traffic, drift, retraining, profiles, summary."""

import logging
import math
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaProducer, TopicPartition
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TamizError
from schemas.records import Decision
from schemas.time_units import DAY_MS
from schemas.topics import topic_table
from schemas.transaction_ids import place
from stream_app.decisions import dead_letters
from stream_app.kafka.kafka_clients import RecordConsumer, client_config
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_admin import create_topics, topic_ids
from tamiz.demo.demo_attack import ATTACK_DAYS, attack_story
from tamiz.demo.demo_drift import DAYS, ROWS_PER_DAY, DemoStep, changed_customers, fast_settings, follow_retraining
from tamiz.demo.demo_services import ready_service, service_process, wait_for_takeover
from tamiz.demo.profile_comparison import ProfileGain, profile_gain
from tamiz.simulation.payload_formats import keyed_payloads, write
from tamiz.simulation.simulator import Traffic, simulate
from tamiz.terminal import Terminal
from training.pipeline import train

log = logging.getLogger("tamiz.demo")
HISTORY_ROWS = 30_000
INVALID_SHARE = 0.01
HISTORY = Traffic(rows=HISTORY_ROWS, seed=1, signal=True)
TRAFFIC_START_MS = HISTORY.start_ms + HISTORY.days * DAY_MS
TRAFFIC_DAYS = 10
TIMEOUT_S = 30


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Time from the scheduled sending of a transaction until its decision is read, in milliseconds."""

    p50_ms: float
    p99_ms: float


class DemoSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The demo's summary; `tamiz demo --json FILE` writes it."""

    transactions: int
    decisions: int
    outcomes: dict[str, int]
    dead_letters: int
    dead_letter_codes: dict[str, int]
    rate_per_s: float
    latency: Latency
    model: str
    model_version: int  # in service at the end
    forced: bool  # whether the first version was promoted without passing the skill gate
    story: tuple[DemoStep, ...]  # steps from the attack to the model swap
    profiles: ProfileGain
    mlflow_ui: str
    seconds: float


class DecisionWatcher(threading.Thread):
    """Thread that reads decisions and dead letters and records when each decision was read."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="demo-watcher", daemon=True)
        self._settings = settings
        self.outcomes: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.read_at: dict[str, float] = {}
        self.model_versions: set[int] = set()
        self.ready = threading.Event()
        self._over = threading.Event()
        self.failure: BaseException | None = None

    @property
    def answered(self) -> int:
        """Number of transactions that became a decision or a dead letter."""
        return self.outcomes.total() + self.codes.total()

    def run(self) -> None:
        """Read until `stop`."""
        try:
            self._watch()
        except BaseException as error:  # raised by the waiting thread
            self.failure = error
            self.ready.set()

    def _watch(self) -> None:
        s = self._settings
        consumer = RecordConsumer(**client_config(s.bootstrap), enable_auto_commit=False, fetch_max_wait_ms=20)
        try:
            partitions = [
                TopicPartition(topic, p)
                for topic in (s.decisions_topic, s.dead_letters_topic)
                for p in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            self.ready.set()
            intake = RecordIntake(s, log)
            while not self._over.is_set():
                for partition, records in consumer.poll(timeout_ms=100).items():
                    now = time.monotonic()
                    for record in records:
                        if partition.topic == s.dead_letters_topic:
                            about = dead_letters.read(record.headers)
                            self.codes[about.code if about else "unknown"] += 1
                            continue
                        if (decision := intake.read_ours(record, Decision)) is None:
                            continue
                        self.outcomes[decision.outcome] += 1
                        self.model_versions.add(decision.model_version)
                        self.read_at[decision.transaction_id] = now
        finally:
            consumer.close()

    def stop(self) -> None:
        """Stop reading."""
        self._over.set()
        self.join(10)


def send(settings: Settings, payloads: Sequence[tuple[bytes | None, bytes | None]], rate: float) -> dict[str, float]:
    """Produce on schedule (open loop). Returns transaction id -> scheduled time, monotonic seconds."""
    producer = KafkaProducer(**client_config(settings.bootstrap), acks="all", linger_ms=2)
    try:
        sent: list[tuple[float, Any]] = []
        start = time.monotonic()
        for i, (key, value) in enumerate(payloads):
            due = start + i / rate
            if (early := due - time.monotonic()) > 0.001:
                time.sleep(early)
            sent.append((due, producer.send(settings.transactions_topic, key=key, value=value)))
        producer.flush()
        places = [(due, future.get(30)) for due, future in sent]
    finally:
        producer.close()
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    return {place(p.topic, p.partition, p.offset, topic_id): due for due, p in places}


def run(settings: Settings, folder: Path, rows: int, rate: float, console: Terminal) -> DemoSummary:
    """Run the demo on a running broker.

    folder: for the training file, the registry and the logs; kept, so that the MLflow UI can be used afterwards.
    """
    started = time.monotonic()
    profiles = load_dataset(settings.dataset).profiles
    create_topics(settings.bootstrap, topic_table(settings, profiles), settings.replication_factor)
    with console.status("simulating a labelled history and training on it"):
        write(HISTORY, simulate(HISTORY), folder / "history.csv")
        first = msgspec.structs.replace(settings, promotion="automatic")  # the first version needs no approval
        trained = train(first, folder / "history.csv")
    console.print(f"trained {trained.model} version {trained.version} on {trained.rows:,} transactions")
    settings = fast_settings(settings)
    with ExitStack() as stack:
        with console.status("starting worker, monitor, retrainer and dashboard"):
            home = f"http://{settings.web_host}"
            pages = {
                "worker": f"{home}:{settings.web_port}/readyz",
                "dashboard": f"{home}:{settings.dashboard_port}/livez",
            }
            services = [
                stack.enter_context(ready_service(command, page, settings, folder / f"{command}.log"))
                for command, page in pages.items()
            ] + [
                stack.enter_context(service_process(command, settings, folder / f"{command}.log"))
                for command in ("monitor", "retrainer")
            ]
        page = f"{home}:{settings.dashboard_port}/"
        console.print(Text.assemble("live dashboard: ", (page, "bold")))
        watcher = DecisionWatcher(settings)
        stack.callback(watcher.stop)
        watcher.start()
        watcher.ready.wait(TIMEOUT_S)
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send, settings, _traffic(rows), rate)
            _wait_for_decisions(watcher, rows, sending, console)
        due_at, took = sending.result(), time.monotonic() - begun
        latency = latency_percentiles(due_at, watcher.read_at)
        story = _run_stories(settings, watcher, services, pages["worker"], started, console)
    with console.status("training on another data set with and without profiles"):
        gain = profile_gain(settings, folder)
    return DemoSummary(
        transactions=watcher.answered,
        decisions=watcher.outcomes.total(),
        outcomes=dict(watcher.outcomes),
        dead_letters=watcher.codes.total(),
        dead_letter_codes=dict(watcher.codes.most_common()),
        rate_per_s=round(len(due_at) / took, 1),
        latency=latency,
        model=trained.model,
        model_version=max(watcher.model_versions, default=trained.version),
        forced=trained.forced,
        story=tuple(story),
        profiles=gain,
        mlflow_ui=trained.mlflow_ui,
        seconds=round(time.monotonic() - started, 1),
    )


def _run_stories(
    settings: Settings,
    watcher: DecisionWatcher,
    services: Sequence["subprocess.Popen[bytes]"],
    worker_page: str,
    started: float,
    console: Terminal,
) -> list[DemoStep]:
    """Block the cards of an attack. Then follow drift to the end of retraining, until the new version decides."""

    def alive() -> None:
        if watcher.failure or any(p.poll() is not None for p in services):
            raise TamizError(
                "worker, dashboard, monitor or retrainer stopped unexpectedly; see the logs in the demo's folder"
            )

    def now() -> float:
        return round(time.monotonic() - started, 1)

    attack_ms = TRAFFIC_START_MS + TRAFFIC_DAYS * DAY_MS
    story = list(
        attack_story(settings, attack_ms, started, console, lambda pairs: send(settings, pairs, math.inf), alive)
    )
    start_ms = attack_ms + ATTACK_DAYS * DAY_MS
    customers = changed_customers(start_ms, DAYS, seed=3)
    answered, before = watcher.answered, set(watcher.model_versions)
    send(settings, customers, math.inf)
    story.append(
        DemoStep(step="drift injected", after_s=now(), event_time_ms=start_ms, detail="lower amounts, different fraud")
    )
    injected = f" {len(customers):,} transactions of changed customers, {DAYS} days"
    console.print(Text.assemble(("drift injected", "bold"), injected))
    with console.status("waiting for drift detection and retraining"):
        story += follow_retraining(settings, start_ms, started, console, alive)
        if story[-1].step == "promoted":  # the worker tests the bundle in a child process first, which takes seconds
            wait_for_takeover(worker_page, before, alive)
    send(settings, changed_customers(start_ms + DAYS * DAY_MS, 1, seed=4), 500)
    with console.status("waiting for the last decisions"):
        expected = answered + len(customers) + ROWS_PER_DAY
        deadline = time.monotonic() + TIMEOUT_S
        while watcher.answered < expected and time.monotonic() < deadline:
            alive()
            time.sleep(0.1)
    if watcher.answered < expected:
        raise TamizError(f"{expected - watcher.answered} transactions were not decided within {TIMEOUT_S} s")
    for version in sorted(watcher.model_versions - before):
        detail = f"version {version} is in service; no worker was restarted"
        story.append(DemoStep(step="swapped", after_s=now(), detail=detail))
        console.print(Text.assemble(("swapped", "bold"), f" {detail}"))
    return story


def _traffic(rows: int) -> list[tuple[bytes, bytes]]:
    traffic = Traffic(
        rows=rows,
        seed=2,
        signal=True,
        payload_format="mixed",
        invalid_share=INVALID_SHARE,
        start_ms=TRAFFIC_START_MS,
        days=TRAFFIC_DAYS,
    )
    return list(keyed_payloads(traffic))


def _wait_for_decisions(
    watcher: DecisionWatcher, rows: int, sending: "Future[dict[str, float]]", console: Terminal
) -> None:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        task = progress.add_task("decided", total=rows)
        deadline = time.monotonic() + TIMEOUT_S
        seen = 0
        while watcher.answered < rows:
            if watcher.answered > seen:
                seen, deadline = watcher.answered, time.monotonic() + TIMEOUT_S
            progress.update(task, completed=watcher.answered)
            if watcher.failure or (sending.done() and sending.exception()) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        progress.update(task, completed=watcher.answered)
    if watcher.failure:
        raise TamizError(f"the decisions could not be read: {watcher.failure!r}")
    sending.result()
    if watcher.answered < rows:
        raise TamizError(
            f"{rows - watcher.answered} of {rows} transactions got no decision or dead letter within {TIMEOUT_S} s"
        )


def latency_percentiles(due_at: dict[str, float], read_at: dict[str, float]) -> Latency:
    """Percentiles over the transactions that were decided.

    >>> latency_percentiles({"a": 0.0, "b": 1.0}, {"a": 0.010, "b": 1.010})
    Latency(p50_ms=10.0, p99_ms=10.0)
    """
    waits = [read_at[t] - due for t, due in due_at.items() if t in read_at]
    if not waits:
        return Latency(p50_ms=float("nan"), p99_ms=float("nan"))
    p50, p99 = np.percentile(np.array(waits) * 1000, [50, 99])
    return Latency(p50_ms=round(float(p50), 1), p99_ms=round(float(p99), 1))
