"""The notifier on a real Kafka: each channel gets each message once, despite outages and invalid records."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from reportlab.pdfgen.canvas import Canvas

from monitoring.alerting.notification import Notification
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError
from schemas.records import DriftAlert, ModelEvent
from stream_app.decisions import dead_letters
from stream_app.kafka import kafka_clients
from stream_app.redrive.redrive import redrive
from tamiz.notifications.channels.catalogue import channels
from tamiz.notifications.delivery_loop import Notifier
from tamiz.notifications.notifier import clients, serve
from tamiz.notifications.retry import RetryPolicy
from tests.conftest import Kafka
from tests.helpers.bundles.small_bundle import small_bundle
from tests.helpers.services.notification_servers import (
    HttpReceiver,
    MailReceiver,
    closed_port,
    http_receiver,
    mail_receiver,
)
from tests.helpers.services.worker_process import (
    add_partitions,
    isolated_settings,
    read_topic,
    running_command,
    wait_for,
)
from tests.unit.monitoring.alerting.test_notification import ALERT, EVENT
from tests.unit.tamiz.test_channels import SECRET, is_ours
from training.registry import mlflow_registry

QUICK = RetryPolicy(attempts=3, first_pause_s=0.01)
POISON = b"\xff no record", None, b"{}", b'{"model": "\xff"}', b'{"x":' + b"[" * 20_000


class ChannelServers(NamedTuple):
    """The servers of three channels."""

    slack: HttpReceiver
    hook: HttpReceiver
    mail: MailReceiver

    def received(self) -> tuple[int, int, int]:
        return len(self.slack.requests), len(self.hook.requests), len(self.mail.mails)


@pytest.fixture
def servers() -> Iterator[ChannelServers]:
    with http_receiver() as slack, http_receiver() as hook, mail_receiver() as mail:
        yield ChannelServers(slack, hook, mail)


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path, servers: ChannelServers) -> Settings:
    """Settings with topics of their own and all three channels."""
    return isolated_settings(
        kafka.bootstrap_servers,
        tmp_path / "state",
        slack_webhook=Secret(f"{servers.slack.url}/{SECRET}"),
        webhook_url=Secret(f"{servers.hook.url}/{SECRET}"),
        webhook_secret=Secret(SECRET),
        smtp_host="127.0.0.1",
        smtp_port=servers.mail.port,
        smtp_security="none",
        mail_from="tamiz@example.org",
        mail_to="ana@example.org",
    )


@contextlib.contextmanager
def running_notifier(settings: Settings, retry_policy: RetryPolicy = QUICK) -> Iterator[None]:
    """A notifier in a thread. It must end without an error."""
    stop, ready, errors = threading.Event(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            serve(settings, stop, retry_policy=retry_policy, ready=ready.set)
        except BaseException as error:
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(120)
        assert errors == []
        yield
    finally:
        stop.set()
        thread.join(120)
    assert errors == []
    assert not thread.is_alive()


def send(
    settings: Settings, *records: DriftAlert | ModelEvent | bytes | None, topic: str = "", partition: int | None = None
) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    try:
        for record in records:
            home = settings.drift_alerts_topic if isinstance(record, DriftAlert) else settings.model_events_topic
            value = record if record is None or isinstance(record, bytes) else msgspec.json.encode(record)
            producer.send(topic or home, key=b"card-transactions", value=value, partition=partition).get(30)
    finally:
        producer.close()


@contextlib.contextmanager
def committed_offsets(settings: Settings) -> Iterator[Callable[[], tuple[Any, Any]]]:
    """Function that returns the committed offsets of alerts and of model events."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=f"{settings.consumer_group}-notifier")
    alerts, events = (TopicPartition(t, 0) for t in (settings.drift_alerts_topic, settings.model_events_topic))
    try:
        yield lambda: (consumer.committed(alerts), consumer.committed(events))
    finally:
        consumer.close()


def change(event: ModelEvent, to: str, version: int | None = 1) -> ModelEvent:
    return msgspec.structs.replace(event, change=to, model_version=version)


@pytest.fixture
def reported(settings: Settings, tmp_path: Path) -> Settings:
    """A registered version whose run holds a PDF report."""
    small_bundle(tmp_path / "bundle")
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(
        settings, tmp_path / "bundle", report=tmp_path / "evaluation", metrics={}, params={}, tags={}
    )
    canvas = Canvas(str(tmp_path / mlflow_registry.REPORT))
    canvas.drawString(72, 720, "version 1")
    canvas.save()
    mlflow_registry.log_artifact(settings, 1, tmp_path / mlflow_registry.REPORT)
    return settings


@pytest.mark.kafka
def test_each_channel_gets_each_record_once_across_restarts(
    reported: Settings, servers: ChannelServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_clients, "METADATA_MAX_AGE_MS", 500)
    settings = reported
    send(settings, ALERT, change(EVENT, "retained"))  # before the first start: not sent
    with running_notifier(settings), committed_offsets(settings) as committed:
        send(settings, *POISON, topic=settings.drift_alerts_topic)
        send(settings, *POISON, msgspec.structs.replace(EVENT, model="another"), change(EVENT, "training-started"))
        send(settings, ALERT, change(EVENT, "promoted"), change(EVENT, "awaiting-approval"))
        send(settings, change(EVENT, "training-failed", None))
        wait_for(lambda: committed() == (7, 11), 120, lambda: f"{servers.received()} {committed()}")
    assert servers.received() == (4, 4, 4)

    notices = {}
    for request in servers.hook.requests:
        assert is_ours(request.body, request.headers["Tamiz-Signature"], SECRET)
        notice = msgspec.json.decode(request.body, type=Notification)
        notices[notice.change] = notice.severity
    assert notices == {
        "opened": "critical",
        "promoted": "info",
        "awaiting-approval": "warning",
        "training-failed": "warning",
    }
    assert sum(b":rotating_light:" in request.body for request in servers.slack.requests) == 1
    attached = {mail["Subject"]: [p.get_content()[:4] for p in mail.iter_attachments()] for mail in servers.mail.mails}
    assert attached == {
        "[critical] card-transactions v1: shift incident opened": [b"%PDF"],
        "[info] card-transactions v1: promoted": [b"%PDF"],
        "[warning] card-transactions v1: awaiting-approval": [b"%PDF"],
        "[warning] card-transactions: training-failed": [],
    }

    send(settings, change(EVENT, "rolled-back"))  # while no notifier runs
    with running_notifier(settings), committed_offsets(settings) as committed:
        wait_for(lambda: committed() == (7, 12), 120, lambda: f"{servers.received()} {committed()}")
        assert servers.received() == (5, 5, 5)
        assert b"rolled-back" in servers.slack.requests[-1].body
        add_partitions(settings, 2, settings.model_events_topic)  # while it runs: read from the beginning
        send(settings, change(EVENT, "retained"), partition=1)
        wait_for(lambda: servers.received() == (6, 6, 6), 60, lambda: f"{servers.received()}")
    assert b"retained" in servers.slack.requests[-1].body


@pytest.mark.kafka
def test_an_unavailable_channel_delays_no_other_and_gets_the_count_later(
    settings: Settings, servers: ChannelServers
) -> None:
    servers.hook.usually = 404
    value = msgspec.json.encode(ALERT)
    with closed_port() as port:
        unavailable = msgspec.structs.replace(settings, slack_webhook=Secret(f"http://127.0.0.1:{port}/{SECRET}"))
        with running_notifier(unavailable), committed_offsets(settings) as committed:
            send(settings, ALERT)
            wait_for(lambda: committed()[0] == 1, 120, servers.received)
    assert servers.received() == (0, 1, 1), "a permanent error is not retried"
    found = {}
    for letter in read_topic(settings.bootstrap, settings.dead_letters_topic, at_least=2):
        about = dead_letters.read(letter.headers)
        assert about is not None
        assert (letter.value, about.origin) == (value, f"{settings.drift_alerts_topic}-0-0")
        assert SECRET not in str(letter.headers)
        found[about.field] = about.code
    assert found == {"slack": "notification-undelivered", "webhook": "notification-refused"}

    left = redrive(settings, load_dataset(settings.dataset))
    assert (left.sent_back, left.invalid, left.unreadable) == (0, {}, 0), "an alert is no transaction"

    servers.hook.usually = 200
    with running_notifier(settings):
        wait_for(lambda: servers.received()[:2] == (1, 2), 120, servers.received)
    for request in (servers.slack.requests[-1], servers.hook.requests[-1]):
        assert b"notifications not sent here: 1, critical: 1" in request.body
    assert len(servers.mail.mails) == 1
    with running_notifier(settings):
        send(settings, change(EVENT, "promoted"))
        wait_for(lambda: servers.received() == (2, 3, 2), 120, servers.received)
    assert b"promoted" in servers.slack.requests[-1].body, "a digest is sent once"


@pytest.mark.kafka
def test_repeats_are_counted_and_a_minimum_severity_is_respected(settings: Settings, servers: ChannelServers) -> None:
    settings = msgspec.structs.replace(settings, mail_min_severity="critical")
    grew = [msgspec.structs.replace(ALERT, change="grew", severity="warning", happened_at_ms=i) for i in range(4)]
    with running_notifier(settings), committed_offsets(settings) as committed:
        send(settings, *grew, ALERT)
        wait_for(lambda: committed()[0] == 5, 120, servers.received)
    assert servers.received() == (2, 2, 1)
    assert servers.mail.mails[0]["Subject"].startswith("[critical]")
    with running_notifier(settings):
        wait_for(lambda: servers.received() == (3, 3, 1), 120, servers.received)
    assert b"notifications not sent here: 3, critical: 0" in servers.slack.requests[-1].body


@pytest.mark.kafka
def test_a_restart_sends_only_to_channels_that_were_not_done(settings: Settings, servers: ChannelServers) -> None:
    servers.hook.usually = 500
    with running_notifier(settings, RetryPolicy(first_pause_s=3600)):
        send(settings, ALERT)
        wait_for(lambda: servers.received() == (1, 1, 1), 120, servers.received)
    servers.hook.usually = 200
    with running_notifier(settings), committed_offsets(settings) as committed:
        wait_for(lambda: committed()[0] == 1, 120, servers.received)
    assert servers.received() == (1, 2, 1)
    first, second = servers.hook.requests
    assert first.headers["Tamiz-Delivery"] == second.headers["Tamiz-Delivery"]


@pytest.mark.kafka
def test_a_reconnect_sends_nothing_twice(settings: Settings, servers: ChannelServers) -> None:
    stop = threading.Event()
    notifier = Notifier(settings, channels(settings, lambda notice: None), stop, QUICK)

    def with_new_clients(until: Callable[[], bool]) -> None:
        stop.clear()
        with clients(settings) as (consumer, producer, partitions):
            notifier.resume(consumer, partitions)
            thread = threading.Thread(target=notifier.run, args=(producer,))
            thread.start()
            try:
                send(settings, ALERT)
                wait_for(until, 120, servers.received)
            finally:
                stop.set()
                thread.join(120)

    with committed_offsets(settings) as committed:
        with_new_clients(lambda: committed()[0] == 1)
        with clients(settings) as (consumer, _, (alerts, _)):
            consumer.commit({alerts: OffsetAndMetadata(0, "", -1)})  # as if that commit had been lost
        with_new_clients(lambda: committed()[0] == 2)
    assert servers.received() == (1, 1, 1), "neither the same record nor a repeat is sent again"


@pytest.mark.kafka
def test_the_command_ends_on_sigterm_and_logs_notifications_without_secrets(
    settings: Settings, servers: ChannelServers, tmp_path: Path
) -> None:
    servers.slack.usually = 403
    settings = msgspec.structs.replace(settings, log_level="DEBUG", mail_min_severity="critical")
    with running_command("notifier", settings, tmp_path) as log:
        wait_for(lambda: b"ready; sending new notifications" in log.read_bytes(), 120, log.read_text)
        send(settings, change(EVENT, "training-failed", None))
        wait_for(lambda: b"slack (127.0.0.1" in log.read_bytes() and servers.received()[1] == 1, 120, log.read_text)
    text = log.read_text()
    assert "training-failed" in text
    assert "responded with 403" in text
    assert SECRET not in text


@pytest.mark.kafka
def test_a_missing_topic_is_reported_in_one_line(settings: Settings) -> None:
    nowhere = msgspec.structs.replace(settings, topic_prefix="no-such-")
    with pytest.raises(BrokerError, match=r"no-such-drift-alerts.*tamiz topics create"):
        serve(nowhere, threading.Event())
