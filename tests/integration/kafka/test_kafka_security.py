"""Kafka over TLS with password or certificate, pages behind a token; secrets appear in no output."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.windows import OffsetRange
from schemas.configuration.child_environment import as_environment
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings, load
from schemas.errors import BrokerError, ConfigError
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.topic_admin import create_topics, partition_counts
from stream_app.kafka.topic_reader import read_to_end
from stream_app.monitor.alert_examples import AlertExamples
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.doctor.cluster_checks import readable_configuration
from tamiz.doctor.cluster_facts import cluster_facts
from tamiz.doctor.facts import ClusterFacts, Unknown
from tamiz.doctor.topic_checks import rights
from tamiz.services.user_file import add_user
from tests.helpers.services.certificates import CertificateFiles, create_certificates
from tests.helpers.services.worker_process import running_worker, wait_for
from tests.unit.stream_app.monitor.test_alert_examples import ALERT

PASSWORD = "correct-horse-battery"
SECRET = "a-secret-of-our-own"


class Guarded(msgspec.Struct):
    """A broker that lets nobody in unasked, but for the plain listener that set it up."""

    plain: str
    scram: int
    mtls: int
    authority: CertificateFiles
    client: CertificateFiles
    stranger: CertificateFiles

    def by_password(self, settings: Settings, **changes: Any) -> Settings:
        given = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "tamiz", "sasl_password": Secret(PASSWORD)}
        return self._settings(settings, self.scram, "SASL_SSL", given | changes)

    def by_certificate(self, settings: Settings, **changes: Any) -> Settings:
        given = {"ssl_certfile": self.client.certificate, "ssl_keyfile": self.client.key}
        return self._settings(settings, self.mtls, "SSL", given | changes)

    def _settings(self, settings: Settings, port: int, protocol: Any, changes: dict[str, Any]) -> Settings:
        return msgspec.structs.replace(
            settings,
            bootstrap_servers=f"127.0.0.1:{port}",
            security_protocol=protocol,
            **({"ssl_cafile": self.authority.certificate} | changes),
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("certificates")
    authority, (server, client) = create_certificates(folder, "server", "client")
    (folder / "other").mkdir()
    _, (stranger,) = create_certificates(folder / "other", "stranger")
    store = folder / "server-store.pem"
    store.write_bytes(server.key.read_bytes() + server.certificate.read_bytes())
    plain, controller, scram, mtls = (free_port() for _ in range(4))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SCRAM://127.0.0.1:{scram},MTLS://127.0.0.1:{mtls}"
    properties = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SCRAM:SASL_SSL,MTLS:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.mtls.ssl.client.auth": "required",
        # Topics without an ACL allow every authenticated principal everything.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    with EmbeddedBroker(port=plain, properties=properties) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("tamiz", ScramMechanism.SCRAM_SHA_512, PASSWORD)]
        )
        admin.close()
        cluster = Guarded(broker.bootstrap_servers, scram, mtls, authority, client, stranger)
        # The controller stores the password; the broker receives it a moment later.
        wait_for(lambda: lets_in(cluster.by_password(load({}))), 30)
        yield cluster


def lets_in(settings: Settings) -> bool:
    try:
        partition_counts(settings.bootstrap, [])
    except BrokerError:
        return False
    return True


@pytest.mark.kafka
def test_the_doctor_names_missing_rights(guarded: Guarded) -> None:
    settings = own_topics(guarded.by_password(load({})))
    plain = KafkaAdminClient(bootstrap_servers=guarded.plain)
    for topic, *operations in (
        (settings.decisions_topic, ACLOperation.READ, ACLOperation.DESCRIBE),
        (settings.labels_topic, ACLOperation.DESCRIBE),
    ):
        pattern = ResourcePattern(ResourceType.TOPIC, topic)
        for allowed in operations:
            plain.create_acls([ACL("User:tamiz", "*", allowed, ACLPermissionType.ALLOW, pattern)])
    every = ResourcePatternFilter(ResourceType.TOPIC, None, ACLResourcePatternType.ANY)
    acls = ACLFilter("User:tamiz", "*", ACLOperation.ANY, ACLPermissionType.ANY, every)
    wait_for(lambda: len(plain.describe_acls(acls)[0]) == 3, 30)  # as with the password
    plain.close()
    cluster = cluster_facts(settings)
    assert isinstance(cluster, ClusterFacts)
    found = {f.subject: f for f in rights(settings, cluster)}
    assert (found[settings.decisions_topic].status, found[settings.labels_topic].status) == ("warning", "problem")
    assert "no WRITE, which worker needs" in found[settings.decisions_topic].seen
    assert found[settings.transactions_topic].status == "ok"
    assert isinstance(cluster.topics[settings.decisions_topic].config, Unknown)
    assert [f.status for f in readable_configuration(settings, cluster)] == ["not checked"]


@pytest.mark.kafka
def test_a_monitor_that_may_not_read_transactions_publishes_alerts_without_examples(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    settings = own_topics(guarded.by_password(load({})))
    plain = KafkaAdminClient(bootstrap_servers=guarded.plain)
    topic = ResourcePattern(ResourceType.TOPIC, settings.transactions_topic)
    plain.create_acls([ACL("User:tamiz", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, topic)])
    plain.close()
    producer = KafkaProducer(bootstrap_servers=guarded.plain)
    producer.send(settings.transactions_topic, b"{}", partition=0)
    producer.flush()
    producer.close()

    def is_refused() -> bool:
        examples = AlertExamples(settings, lambda version: cast(MonitoredModel, None), lambda: None)
        assert examples.add_to([ALERT], lambda since_ms, until_ms: {0: OffsetRange(0, 9)}) == (ALERT,)
        return "TopicAuthorizationFailed" in caplog.messages[-1]

    wait_for(is_refused, 30)  # the right is in force a moment later


def own_topics(settings: Settings) -> Settings:
    mark = uuid4().hex[:8]
    own = with_own_topics(settings, f"{mark}-")
    settings = msgspec.structs.replace(own, consumer_group=f"tamiz-{mark}", partitions=2)
    create_topics(settings.bootstrap, topic_table(settings), 1)
    return settings


def fetch(url: str, token: str | None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.kafka
def test_a_worker_decides_exactly_once_over_tls_and_logs_no_secret(
    guarded: Guarded, real_registry: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    users = tmp_path / "web-users"
    approver, scraper = (add_user(users, role, [role]) for role in ("approve", "scrape"))
    settings = guarded.by_password(
        real_registry, processing_guarantee="exactly-once", log_level="DEBUG", web_users_file=users
    )
    settings = own_topics(settings)
    producer = KafkaProducer(**client_config(settings.bootstrap))
    for value in real_payloads[:300]:
        producer.send(settings.transactions_topic, value=value)
    producer.flush()
    producer.close()
    with running_worker(settings, tmp_path) as worker:
        decided = 0
        while decided < 300:
            decided = sum(len(rows) for rows in read_to_end(settings.bootstrap, settings.decisions_topic))
            assert worker.process.poll() is None, worker.tail()
        assert fetch(worker.url + "/livez", None) == 200
        assert [fetch(worker.url + "/metrics", token) for token in (None, "wrong", approver, scraper)] == [
            401,
            401,
            403,
            200,
        ]
        assert worker.stop() == 0
        log = worker.log.read_text()
    assert decided == 300
    assert [secret for secret in (PASSWORD, approver, scraper) if secret in log] == []
    personal = json.loads(real_payloads[0])["monto"]
    assert personal not in log


@pytest.mark.kafka
def test_a_certificate_lets_in_and_a_strangers_does_not(guarded: Guarded, real_registry: Settings) -> None:
    settings = own_topics(guarded.by_certificate(real_registry))
    assert partition_counts(settings.bootstrap, [settings.decisions_topic]) == {settings.decisions_topic: 2}
    stranger = guarded.by_certificate(
        real_registry, ssl_certfile=guarded.stranger.certificate, ssl_keyfile=guarded.stranger.key
    )
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1"):
        partition_counts(stranger.bootstrap, ["anything"])


@pytest.mark.kafka
def test_a_wrong_password_is_one_readable_line_without_it(
    guarded: Guarded, real_registry: Settings, tmp_path: Path
) -> None:
    settings = guarded.by_password(real_registry, sasl_password=Secret("a-wrong-one"))
    done = subprocess.run(
        [sys.executable, "-m", "tamiz", "topics", "list"],
        env={"PATH": "", **as_environment(settings)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("tamiz: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert "a-wrong-one" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param({"security_protocol": "SASL_SSL"}, ["sasl_mechanism", "sasl_password"], id="SASL without who"),
        pytest.param({"sasl_password": PASSWORD}, ["sasl_password", "SASL_SSL"], id="a password that is not used"),
        pytest.param({"ssl_cafile": __file__}, ["ssl_cafile", "SSL"], id="an authority that is not used"),
        pytest.param({"security_protocol": "SSL", "ssl_keyfile": __file__}, ["ssl_certfile"], id="half a pair"),
        pytest.param({"security_protocol": "SSL", "ssl_cafile": "/no.pem"}, ["/no.pem", "no such file"], id="no file"),
    ],
)
def test_a_way_in_that_cannot_work_is_refused_at_the_start(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load({f"TAMIZ_{name.upper()}": value for name, value in environ.items()})
    assert [word for word in words if word not in str(caught.value)] == []
    assert PASSWORD not in str(caught.value)


def test_a_secret_in_a_file_shows_neither_in_the_settings_nor_in_their_errors(tmp_path: Path) -> None:
    file = tmp_path / "tamiz.toml"
    file.write_text(f'webhook_secret = "{SECRET}"\nwebhook_url = "https://hooks.example.org/x"')
    settings = load({"TAMIZ_CONFIG": str(file)})
    assert settings.webhook_secret == Secret(SECRET)
    assert SECRET not in repr(settings)
    shown = subprocess.run(
        [sys.executable, "-m", "tamiz", "settings", "--json"],
        env={"PATH": "", "TAMIZ_CONFIG": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(shown.stdout)["webhook_secret"] == "***"
    file.write_text("webhook_secret = 987654321")
    with pytest.raises(ConfigError) as caught:
        load({"TAMIZ_CONFIG": str(file)})
    assert "987654321" not in str(caught.value)
