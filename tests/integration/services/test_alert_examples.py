"""Examples of an alert, on a real broker: they are transactions of the bin that grew most."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from monitoring.counting.pane_codec import to_records
from monitoring.counting.panes import PartitionPanes
from monitoring.counting.windows import OffsetRange
from monitoring.drift.evidence import grown_bin
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision, DriftAlert
from schemas.time_units import DAY_MS, MINUTE_MS
from schemas.transaction_ids import TRANSACTION_ID_HEADER
from stream_app.decisions.handler import HandlerPolicy, handle
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.topic_admin import topic_ids
from stream_app.monitor.alert_examples import AlertExamples
from stream_app.monitor.monitor_loop import Monitor
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.worker.champion_cache import ChampionCache
from tamiz.simulation.drift_injection import InjectedDrift
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, wait_for
from tests.helpers.traffic.drift_simulation import FIRST_DAY_MS, ROWS_PER_DAY

DAYS = 3
SHIFT_MS = FIRST_DAY_MS + DAY_MS
DRIFT = (
    InjectedDrift(kind="mean-shift", at_ms=SHIFT_MS, strength=1.5, feature="monto"),
    InjectedDrift(kind="virtual-share", at_ms=SHIFT_MS, strength=0.9),
)
PARTITIONS = 2
CHECKED = {"tipo_tc", "monto", "cashback", "dcto", "score"}  # whose values a payload or a decision has as they are


def send_transactions(settings: Settings) -> list[Any]:
    """Traffic in which a number and a category shift, with a broken record at the end; returns the records."""
    traffic = Traffic(
        rows=DAYS * ROWS_PER_DAY,
        seed=2,
        signal=True,
        payload_format="mixed",
        start_ms=FIRST_DAY_MS,
        days=DAYS,
        drift=DRIFT,
    )
    producer = KafkaProducer(**client_config(settings.bootstrap), linger_ms=5)
    sent = list(keyed_payloads(traffic))
    for i, (key, value) in enumerate([*sent, (b"?", b'{"monto": "\xff')]):
        headers = [(TRANSACTION_ID_HEADER, b"sent-%d" % i)] if i % 3 == 0 else []
        producer.send(settings.transactions_topic, value, key=key, headers=headers, partition=i % PARTITIONS)
    producer.flush()
    producer.close()
    return read_topic(settings.bootstrap, settings.transactions_topic, at_least=len(sent) + 1)


def send_panes(settings: Settings, store: ChampionCache, records: Sequence[Any]) -> dict[str, Decision]:
    """Count the records as workers do; returns the decisions of workers, by id of their transaction."""
    model = store.current
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    policy = HandlerPolicy.from_settings(settings, load_dataset(settings.dataset), counting=True)
    decisions: dict[str, Decision] = {}
    producer = KafkaProducer(**client_config(settings.bootstrap), acks="all")
    for p in range(PARTITIONS):
        mine = [r for r in records if r.partition == p]
        fold = PartitionPanes(model.bins, p, settings.allowed_lateness_minutes * MINUTE_MS)
        for start in range(0, len(mine), 100):
            batch = mine[start : start + 100]
            handled = handle(batch, model, policy._replace(topic_id=topic_id))
            made = [msgspec.json.decode(d.value or b"", type=Decision) for d in handled.decisions]
            decisions |= {d.transaction_id: d for d in made}
            assert handled.coded is not None
            fold.update(*handled.coded, np.array([r.offset for r in batch]))
            for key, snapshot in to_records(
                fold.snapshot(), model=settings.model_name, model_version=model.version, layout=model.bins.digest
            ):
                producer.send(settings.drift_panes_topic, msgspec.json.encode(snapshot), key=key, partition=p)
                producer.flush()
    producer.close()
    return decisions


def number(value: Any) -> float:
    return float(str(value).replace(",", "."))


def interval(label: str) -> tuple[float, float]:
    """The bounds of a bin's label, as `[250, 300)`; of a single value, it twice."""
    bounds = [float(part) for part in label.strip("[]()").split(",")]
    return bounds[0], bounds[-1]


@pytest.mark.kafka
def test_examples_of_a_shifted_number_and_category_lie_in_the_bin_that_grew(
    kafka: Kafka, simulated_registry: Settings
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, simulated_registry.state_dir, partitions=PARTITIONS)
    store = ChampionCache(settings, load_dataset(settings.dataset))
    store.open()
    records = send_transactions(settings)
    decisions = send_panes(settings, store, records)
    stop, metrics = threading.Event(), MonitorMetrics()
    thread = threading.Thread(target=Monitor(settings, store, metrics).run, args=(stop,))
    thread.start()

    def opened() -> dict[str, DriftAlert]:
        alerts = [
            msgspec.json.decode(r.value, type=DriftAlert)
            for r in read_topic(settings.bootstrap, settings.drift_alerts_topic)
        ]
        return {a.evidence[0].feature: a for a in alerts if a.change == "opened"}

    try:
        wait_for(lambda: {"tipo_tc"} < opened().keys() & CHECKED or not thread.is_alive(), 60)
    finally:
        stop.set()
        thread.join(60)
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic][:8]
    values = {}
    for r in records[:-1]:
        sent = dict(r.headers).get(TRANSACTION_ID_HEADER)
        name = sent.decode() if sent else f"{r.topic}-{r.partition}-{r.offset}@{topic_id}"
        values[name] = r.value
    alerts = {feature: alert for feature, alert in opened().items() if feature in CHECKED}
    for feature, alert in alerts.items():
        label = alert.evidence[0].labels[grown_bin(alert.evidence[0])]
        assert label in alert.summary
        assert len(set(alert.examples)) == 5
        assert set(alert.examples) <= decisions.keys(), "the ids that workers give"
        for name in alert.examples:
            value = decisions[name].score if feature == "score" else json.loads(values[name])[feature]
            if feature == "tipo_tc":
                assert value == label == "Virtual"
            else:
                low, high = interval(label)
                assert low * 0.9999 <= number(value) <= high * 1.0001, "but for the digits of the label"
    assert {name.startswith("sent-") for a in alerts.values() for name in a.examples} == {True, False}
    assert metrics.registry.get_sample_value("tamiz_monitor_alerts_without_examples_total") == 0

    examples = AlertExamples(settings, store.at_version, metrics.alerts_without_examples.inc)
    beyond = {0: OffsetRange(10**9, 10**9 + 5), 7: OffsetRange(0, 5)}
    (alert,) = examples.add_to([alerts["tipo_tc"]], lambda since_ms, until_ms: beyond)
    assert alert.examples == (), "records that do not exist are not waited for"
    assert metrics.registry.get_sample_value("tamiz_monitor_alerts_without_examples_total") == 1
