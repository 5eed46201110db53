"""Settings of Kafka: the cluster and its security, the consumer group, the topics."""

from pathlib import Path
from typing import Annotated

import msgspec

from schemas.configuration.kafka_config import Access, ClusterAddress, Mechanism, Protocol, Secret
from schemas.configuration.setting_types import Name, Positive, about


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of Kafka, a part of `schemas.configuration.settings.Settings`."""

    bootstrap_servers: Annotated[
        Name | None,
        about("Kafka brokers, `host:port[,host:port]`; unset: `127.0.0.1:9092`, the address of `tamiz broker`"),
    ] = None
    security_protocol: Annotated[
        Protocol, about("protocol of the Kafka connection: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Mechanism | None, about("SASL mechanism: `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`")
    ] = None
    sasl_username: Annotated[Name | None, about("SASL user name")] = None
    sasl_password: Annotated[Secret | None, about("SASL password; never shown")] = None
    ssl_cafile: Annotated[
        Path | None,
        about(
            "PEM file of the certificate authorities that Kafka's certificate is checked against; unset: the system's"
        ),
    ] = None
    ssl_certfile: Annotated[
        Path | None, about("PEM file of the client certificate, for a cluster that uses mutual TLS")
    ] = None
    ssl_keyfile: Annotated[Path | None, about("PEM file of the key of `ssl_certfile`")] = None
    partitions: Annotated[Positive, about("number of partitions of each topic that `tamiz topics create` creates")] = 4
    replication_factor: Annotated[
        Positive, about("number of replicas of each topic that `tamiz topics create` creates")
    ] = 1
    consumer_group: Annotated[Name, about("consumer group of the workers")] = "tamiz"
    transactions_topic: Annotated[Name, about("input topic: transactions")] = "transactions"
    decisions_topic: Annotated[Name, about("output topic: one decision per transaction")] = "decisions"
    dead_letters_topic: Annotated[Name, about("output topic: payloads that cannot be scored")] = "dead-letters"
    redrives_topic: Annotated[
        Name, about("internal topic: dead letters that were sent back to the transactions (compacted)")
    ] = "redrives"
    labels_topic: Annotated[Name, about("input topic: confirmed outcomes (fraud or not) of transactions")] = "labels"
    drift_panes_topic: Annotated[
        Name, about("internal topic: counts per minute and partition, written by the workers")
    ] = "drift-panes"
    drift_reports_topic: Annotated[Name, about("output topic: each drift evaluation")] = "drift-reports"
    drift_alerts_topic: Annotated[Name, about("output topic: drift alerts")] = "drift-alerts"
    retrain_requests_topic: Annotated[Name, about("output topic: requests for retraining")] = "retrain-requests"
    model_events_topic: Annotated[
        Name, about("output topic: events of model versions (registered, promoted, rejected …)")
    ] = "model-events"

    @property
    def bootstrap(self) -> ClusterAddress:
        """Bootstrap servers, with the default applied, and the security settings of the connection."""
        access = Access(
            protocol=self.security_protocol,
            mechanism=self.sasl_mechanism,
            username=self.sasl_username,
            password=self.sasl_password,
            cafile=_text(self.ssl_cafile),
            certfile=_text(self.ssl_certfile),
            keyfile=_text(self.ssl_keyfile),
        )
        return ClusterAddress(self.bootstrap_servers or "127.0.0.1:9092", access)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
