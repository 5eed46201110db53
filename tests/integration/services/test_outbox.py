"""The monitor's outbox on a real Kafka: refused records are counted, delay their reports, and are sent again."""

from pathlib import Path

import msgspec
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from monitoring.counting.windows import OffsetRange
from monitoring.drift.drift_monitor import DriftEvaluation
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError
from schemas.records import DriftAlert, DriftReport
from stream_app.kafka.topic_admin import admin
from stream_app.monitor import outbox
from stream_app.monitor.monitor_loop import Monitor
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.outbox import Outbox
from stream_app.worker.champion_cache import ChampionCache
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic
from tests.unit.monitoring.alerting.test_notification import ALERT

REPORT = DriftReport(
    model="card-transactions",
    model_version=1,
    until_ms=60_000,
    late=0,
    lost=0,
    windows=(),
    incidents=(),
    suspected_attack=False,
)
FULL_BATCH_SIZE = msgspec.structs.replace(ALERT, incident_id="large", examples=tuple(f"{n:064d}" for n in range(20)))


def no_offsets(since_ms: int, until_ms: int) -> dict[int, OffsetRange]:
    return {}


def limit_records(settings: Settings, topic: str, most: int) -> None:
    with admin(settings.bootstrap) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most)})])


#  topic takes     700 bytes                    1 MB
#  alerts          small          later         large
#  reports                                      1, 2
@pytest.mark.kafka
def test_a_refused_alert_keeps_its_report_back_until_it_is_published(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path, partitions=1)
    limit_records(settings, settings.drift_alerts_topic, 700)
    metrics = MonitorMetrics()
    monitor = Monitor(settings, ChampionCache(settings, load_dataset(settings.dataset)), metrics)

    def counted(name: str, topic: str | None = None) -> float | None:
        return metrics.registry.get_sample_value(name, {"topic": topic} if topic else {})

    def published() -> tuple[list[str], list[int]]:
        alerts = read_topic(settings.bootstrap, settings.drift_alerts_topic)
        reports = read_topic(settings.bootstrap, settings.drift_reports_topic)
        return (
            [msgspec.json.decode(r.value, type=DriftAlert).incident_id for r in alerts],
            [msgspec.json.decode(r.value, type=DriftReport).until_ms for r in reports],
        )

    monitor._publish(DriftEvaluation(report=REPORT, alerts=(FULL_BATCH_SIZE, ALERT), request=None), no_offsets)
    assert published() == (["i-7"], [])
    refused, waiting = "tamiz_monitor_publish_failures_total", "tamiz_monitor_unpublished_records"
    assert (counted(refused, settings.drift_alerts_topic), counted(waiting)) == (1, 2)

    later = msgspec.structs.replace(ALERT, incident_id="later")
    monkeypatch.setattr(monitor._outbox, "_retry_at_s", 0.0)
    second = msgspec.structs.replace(REPORT, until_ms=120_000)
    monitor._publish(DriftEvaluation(report=second, alerts=(later,), request=None), no_offsets)
    assert published() == (["i-7", "later"], [])

    limit_records(settings, settings.drift_alerts_topic, 1_000_000)
    monitor._outbox.flush()
    assert published() == (["i-7", "later"], []), "not before its time"
    monkeypatch.setattr(monitor._outbox, "_retry_at_s", 0.0)
    monitor._outbox.flush()
    monitor._outbox.close()
    assert published() == (["i-7", "later", "large"], [60_000, 120_000])
    assert (counted(refused, settings.drift_alerts_topic), counted(waiting)) == (2, 0)


def test_more_than_the_outbox_holds_ends_the_round_so_that_it_is_evaluated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)

    def nobody() -> None:
        raise BrokerError("away")

    box = Outbox(nobody, last_topics=["reports"], on_refused=lambda topic: None, on_waiting=lambda n: None)
    box._retry_at_s = float("inf")
    for n in range(3):
        box.add("alerts", str(n), ALERT)
    with pytest.raises(BrokerError, match="3 records cannot be published, the first one to topic alerts"):
        box.flush()


def test_of_more_than_the_outbox_holds_the_oldest_reports_give_way_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    counted: list[str] = []
    box = Outbox(lambda: None, last_topics=["reports"], on_refused=counted.append, on_waiting=lambda n: None)
    box._retry_at_s = float("inf")
    box.add("alerts", "0", ALERT)
    for n in range(4):
        box.add("reports", str(n), ALERT)
    box.flush()
    assert [(record.topic, record.key) for record in box._waiting] == [("alerts", b"0"), ("reports", b"3")]
    assert counted == ["reports"] * 3
