"""Settings of Kafka: the cluster and its security, the consumer group, the topics and their archive."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

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
    topic_prefix: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,200}\Z")],
        about("put before the name of each topic, so that several installations can share a cluster"),
    ] = ""
    existing_transactions_topic: Annotated[
        Name | None, about("whole name of the topic to read transactions from, where a producer already has one")
    ] = None
    existing_labels_topic: Annotated[
        Name | None, about("whole name of the topic to read labels from, where another system already has one")
    ] = None
    decision_retention_days: Annotated[
        Positive,
        about(
            "retention that `tamiz topics create` sets for decisions with their rule matches, and for the feature log; "
            "a dispute can follow a year later. Shorter, if `tamiz archive` runs every day"
        ),
    ] = 400
    archive_root: Annotated[
        Name | None,
        about(
            "folder or artifact URI to which `tamiz archive` writes and where `tamiz explain` finds what Kafka no "
            "longer holds, e.g. `s3://BUCKET/FOLDER` or `mlflow-artifacts:/archive`"
        ),
    ] = None

    @property
    def transactions_topic(self) -> str:
        """Input: transactions."""
        return self.existing_transactions_topic or self.topic_prefix + "transactions"

    @property
    def labels_topic(self) -> str:
        """Input: confirmed outcomes of transactions."""
        return self.existing_labels_topic or self.topic_prefix + "labels"

    @property
    def decisions_topic(self) -> str:
        """Output: one decision per transaction."""
        return self.topic_prefix + "decisions"

    @property
    def feature_log_topic(self) -> str:
        """Output: values of the profile features at each decision."""
        return self.topic_prefix + "feature-log"

    @property
    def profile_tiles_topic(self) -> str:
        """Internal: closed tiles of profiles of entities other than the key."""
        return self.topic_prefix + "profile-tiles"

    @property
    def dead_letters_topic(self) -> str:
        """Output: payloads that cannot be scored."""
        return self.topic_prefix + "dead-letters"

    @property
    def redrives_topic(self) -> str:
        """Internal: dead letters that were sent back to the transactions."""
        return self.topic_prefix + "redrives"

    @property
    def rules_topic(self) -> str:
        """Input: rulesets, proposed and activated by people."""
        return self.topic_prefix + "rules"

    @property
    def lists_topic(self) -> str:
        """Input: entries of lists, such as blocked cards."""
        return self.topic_prefix + "lists"

    @property
    def rule_activations_topic(self) -> str:
        """Internal: from which input offset which rules and lists hold."""
        return self.topic_prefix + "rule-activations"

    @property
    def rule_statistics_topic(self) -> str:
        """Output: live statistics of rules and lists, written by the monitor, and its state."""
        return self.topic_prefix + "rule-statistics"

    @property
    def drift_panes_topic(self) -> str:
        """Internal: counts per minute and partition, written by the workers."""
        return self.topic_prefix + "drift-panes"

    @property
    def drift_reports_topic(self) -> str:
        """Output: each drift evaluation."""
        return self.topic_prefix + "drift-reports"

    @property
    def drift_alerts_topic(self) -> str:
        """Output: drift alerts."""
        return self.topic_prefix + "drift-alerts"

    @property
    def retrain_requests_topic(self) -> str:
        """Output: requests for retraining."""
        return self.topic_prefix + "retrain-requests"

    @property
    def model_events_topic(self) -> str:
        """Output: events of model versions."""
        return self.topic_prefix + "model-events"

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
