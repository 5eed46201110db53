"""Services as threads of one process, and valid traffic for them."""

import contextlib
import http.server
import logging
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaProducer

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import to_records
from monitoring.counting.panes import PartitionPanes
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.json_codec import decode
from schemas.records import Decision, Label
from schemas.time_units import DAY_MS, MINUTE_MS
from schemas.topics import topic_table, with_own_topics
from stream_app.decisions.batch_records import Headers
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy, handle
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.plausibility import implausibility
from stream_app.kafka.topic_admin import create_topics
from stream_app.kafka.topic_reader import last_records
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic

PARTITIONS = 2
ROWS_A_DAY = 690
FIRST_DAY_MS = Traffic(rows=1, seed=0).start_ms + 29 * DAY_MS  # the day after the training history


class Transaction(msgspec.Struct):
    """A record of `transactions`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Service(threading.Thread):
    """A service in a thread; keeps the exception that ends it."""

    def __init__(self, name: str, target: Callable[[], Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._target_function = target
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run the service."""
        try:
            self._target_function()
        except BaseException as error:
            logging.getLogger("tamiz.chaos").exception("%s ended", self.name)
            self.failure = error


class GoodTraffic:
    """Valid transactions with their decisions, panes and labels."""

    def __init__(self, settings: Settings, model: MonitoredModel, days: int, seed: int) -> None:
        self._settings = settings
        self._model = model
        self._policy = HandlerPolicy.from_settings(settings, load_dataset(settings.dataset), counting=True)
        lateness_ms = settings.allowed_lateness_minutes * MINUTE_MS
        self._folds = [PartitionPanes(model.bins, p, lateness_ms) for p in range(PARTITIONS)]
        traffic = Traffic(rows=days * ROWS_A_DAY, seed=seed, signal=True, start_ms=FIRST_DAY_MS, days=days)
        topic = settings.transactions_topic
        self._records = [
            Transaction(topic, i % PARTITIONS, i // PARTITIONS, key, value)
            for i, (key, value) in enumerate(keyed_payloads(traffic))
        ]

    def send(self, day: int) -> list[msgspec.Struct]:
        """Publish one day; returns its decisions, labels and snapshots."""
        s = self._settings
        records = self._records[day * ROWS_A_DAY : (day + 1) * ROWS_A_DAY]
        sent: list[msgspec.Struct] = []
        producer = KafkaProducer(**client_config(s.bootstrap), acks="all")
        try:
            for r in records:
                producer.send(s.transactions_topic, r.value, key=r.key, partition=r.partition)
            producer.flush()
            handled = handle(records, self._model, self._policy)
            assert handled.coded is not None
            for out in handled.decisions:
                producer.send(s.decisions_topic, out.value, key=out.key, headers=out.headers, partition=out.partition)
                decision = decode(out.value, Decision)
                name = decision.transaction_id
                label = Label(
                    transaction_id=name,
                    fraud=zlib.crc32(name.encode()) % 50 == 0,
                    reported_at_ms=decision.event_time_ms,
                )
                producer.send(s.labels_topic, msgspec.json.encode(label), key=name.encode(), partition=0)
                sent.append(label)
            producer.flush()
            for p, fold in enumerate(self._folds):
                rows = np.array([i for i, r in enumerate(records) if r.partition == p])
                offsets = np.array([records[i].offset for i in rows])
                fold.update(handled.coded.codes[rows], handled.coded.event_times_ms[rows], offsets)
                for key, snapshot in to_records(
                    fold.snapshot(),
                    model=s.model_name,
                    model_version=self._model.version,
                    layout=self._model.bins.digest,
                ):
                    producer.send(s.drift_panes_topic, msgspec.json.encode(snapshot), key=key, partition=p)
                    sent.append(snapshot)
            producer.flush()
        finally:
            producer.close()
        assert all(OFFSET_HEADER in dict(out.headers) for out in handled.decisions)
        return sent


@contextlib.contextmanager
def webhook(bodies: list[bytes]) -> Iterator[str]:
    """Context manager: a webhook server; yields its URL and appends request bodies to `bodies`."""

    class ControlHandler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ControlHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def with_topics(settings: Settings, bootstrap: str, url: str) -> Settings:
    """Create topics for this run only; returns settings with these topics and a group. url: of the webhook."""
    mark = uuid.uuid4().hex[:8]
    made = msgspec.structs.replace(
        with_own_topics(settings, f"{mark}-"),
        bootstrap_servers=bootstrap,
        partitions=PARTITIONS,
        consumer_group=f"fuzz-{mark}",
        webhook_url=Secret(url),
        webhook_secret=Secret("chaos"),
        label_delay_days=0,
    )
    create_topics(bootstrap, topic_table(made, load_dataset(made.dataset).profiles), 1)
    return made


def published_records(settings: Settings, version: int, topic: str, of: type[Any]) -> list[Any]:
    """Last plausible records of a topic for the served model."""
    found = []
    for record in last_records(settings.bootstrap, topic, 200):
        try:
            value = decode(record.value, of)
        except msgspec.MsgspecError:
            continue
        possible = implausibility(value, int(time.time() * 1000)) is None
        if possible and value.model == settings.model_name and value.model_version in (None, version):
            found.append(value)
    return found


def decisions(settings: Settings) -> list[Decision]:
    """Last decisions by workers of this run."""
    found = []
    for record in last_records(settings.bootstrap, settings.decisions_topic, 300):
        try:
            decision = decode(record.value, Decision)
        except msgspec.MsgspecError:
            continue
        if decision.model == settings.model_name and dict(record.headers).get("ce_id") == decision.decision_id.encode():
            found.append(decision)
    return found
