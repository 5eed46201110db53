"""The one reader of the environment and of `tamiz.toml`.

A setting called ``web_port`` is ``TAMIZ_WEB_PORT`` in the environment and ``web_port`` in the file; the
environment wins.
The file is ``tamiz.toml`` in the working directory, or the one that ``TAMIZ_CONFIG`` names.
``MLFLOW_TRACKING_URI`` and the credentials beside it are read as MLflow's own clients read them.
"""

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from schemas.configuration.kafka_config import Access, ClusterAddress, Mechanism, Protocol, Secret, check_access
from schemas.configuration.notification_settings import check_receivers
from schemas.configuration.registry_config import VARIABLES, settle_access
from schemas.errors import ConfigError
from schemas.records import Severity
from schemas.security.hosts import networks, page_names
from schemas.security.sanitizer import without_credentials

OffsetReset = Literal["stop", "skip-and-count", "from-beginning"]
Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cost = Annotated[float, Meta(ge=0.0)]
Name = Annotated[str, Meta(min_length=1)]
SECRETS = frozenset(
    {"sasl_password", "mlflow_password", "mlflow_token", "slack_webhook", "smtp_password"}
    | {"webhook_secret", "webhook_url"}
)


def about(text: str) -> Meta:
    """A setting's line in `docs/reference/settings.md`."""
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one installation of Tamiz is set up. Frozen; made by `load`."""

    bootstrap_servers: Annotated[
        Name | None,
        about("Kafka to use, `host:port[,host:port]`; unset: `127.0.0.1:9092`, where `tamiz broker` listens"),
    ] = None
    security_protocol: Annotated[
        Protocol, about("how Kafka is spoken to: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[Mechanism | None, about("with SASL: `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`")] = None
    sasl_username: Annotated[Name | None, about("with SASL: who we are")] = None
    sasl_password: Annotated[Secret | None, about("with SASL: the password; never shown")] = None
    ssl_cafile: Annotated[
        Path | None, about("with SSL: PEM file of the authorities to trust; unset: the machine's own")
    ] = None
    ssl_certfile: Annotated[Path | None, about("with SSL: PEM file of our certificate, for a cluster that asks")] = None
    ssl_keyfile: Annotated[Path | None, about("with SSL: PEM file of its key")] = None
    partitions: Annotated[Positive, about("partitions of each topic that `tamiz topics create` makes")] = 4
    replication_factor: Annotated[Positive, about("replicas of each topic it makes")] = 1
    consumer_group: Annotated[Name, about("consumer group of the workers")] = "tamiz"
    transactions_topic: Annotated[Name, about("where transactions come in")] = "transactions"
    decisions_topic: Annotated[Name, about("where decisions go out")] = "decisions"
    dead_letters_topic: Annotated[Name, about("where payloads go that cannot be scored")] = "dead-letters"
    redrives_topic: Annotated[Name, about("which dead letters were sent back (compacted)")] = "redrives"
    labels_topic: Annotated[Name, about("where labels come in: what transactions turned out to be")] = "labels"
    drift_panes_topic: Annotated[Name, about("what workers counted, minute by minute")] = "drift-panes"
    drift_reports_topic: Annotated[Name, about("where every evaluation of drift goes out")] = "drift-reports"
    drift_alerts_topic: Annotated[Name, about("where drift alerts go out")] = "drift-alerts"
    retrain_requests_topic: Annotated[Name, about("where retraining is asked for")] = "retrain-requests"
    model_events_topic: Annotated[Name, about("what became of each model version")] = "model-events"
    dataset: Annotated[
        Name, about("the declared data set: a name that ships with Tamiz, or the path of a TOML file")
    ] = "card_transactions"
    model_name: Annotated[Name, about("the registered model's name")] = "card-transactions"
    state_dir: Annotated[Path, about("folder for the local registry, cached models and worker state")] = Path(".tamiz")
    mlflow_tracking_uri: Annotated[
        Name | None,
        about("MLflow's tracking and registry server (`MLFLOW_TRACKING_URI` works too); unset: SQLite in `state_dir`"),
    ] = None
    mlflow_username: Annotated[
        Name | None, about("user for a server that asks (`MLFLOW_TRACKING_USERNAME` works too)")
    ] = None
    mlflow_password: Annotated[
        Secret | None, about("with `mlflow_username`: the password (`MLFLOW_TRACKING_PASSWORD`); never shown")
    ] = None
    mlflow_token: Annotated[
        Secret | None, about("bearer token instead of both (`MLFLOW_TRACKING_TOKEN`); never shown")
    ] = None
    mlflow_cafile: Annotated[
        Path | None,
        about("with `https`: PEM file of the authorities to trust (`MLFLOW_TRACKING_SERVER_CERT_PATH`)"),
    ] = None
    artifact_root: Annotated[
        Name | None,
        about("with SQLite: where models and reports are kept, e.g. `s3://BUCKET/FOLDER`; unset: in `state_dir`"),
    ] = None
    promotion: Annotated[
        Literal["automatic", "approval"],
        about("who makes a proven challenger champion: `automatic`, or a person's `approval`"),
    ] = "automatic"
    promotion_margin: Annotated[
        Share, about("a challenger's ROC AUC must surely exceed the champion's by more than this")
    ] = 0.0
    unrecorded_champion: Annotated[
        Literal["refuse", "serve"],
        about("a champion that no promotion made: `refuse` it, and the history's decides, or `serve` it"),
    ] = "refuse"
    threshold_policy: Annotated[
        Literal["budget", "f2", "cost", "fixed"],
        about("how training chooses when to review and to decline: by alert `budget`, `f2`, `cost`, or as `fixed`"),
    ] = "budget"
    review_budget: Annotated[Share, about("`budget`: share of transactions that people or machines may stop")] = 0.02
    decline_budget: Annotated[Share, about("`budget`: share of transactions that may be declined")] = 0.002
    review_threshold: Annotated[Share, about("`fixed`: score from which a person looks")] = 0.5
    decline_threshold: Annotated[Share, about("`fixed`: score from which it is declined")] = 0.9
    cost_missed_fraud_share: Annotated[Cost, about("`cost` of a missed fraud, as a share of its amount")] = 1.0
    cost_missed_fraud: Annotated[Cost, about("`cost` of a missed fraud, besides")] = 15.0
    cost_review: Annotated[Cost, about("`cost` of a review")] = 5.0
    cost_wrong_decline: Annotated[Cost, about("`cost` of a good transaction declined")] = 50.0
    label_delay_days: Annotated[
        Natural, about("how long after a transaction its label is final; training and test lie so far apart")
    ] = 0
    registry_poll_seconds: Annotated[Positive, about("how often a worker asks the registry who is champion")] = 15
    processing_guarantee: Annotated[
        Literal["at-least-once", "exactly-once"],
        about("what a crash may do to decisions: repeat some, or nothing (docs/guarantees.md)"),
    ] = "at-least-once"
    offset_reset: Annotated[
        OffsetReset,
        about(
            "where a partition goes on whose offset does not fit the log (truncated, deleted by retention, made anew): "
            "`stop` holds it for a person, `skip-and-count`, or `from-beginning` (docs/guarantees.md)"
        ),
    ] = "stop"
    batch_max_records: Annotated[Positive, about("most transactions scored at once")] = 2000
    max_payload_bytes: Annotated[Positive, about("a larger payload is a dead letter")] = 65_536
    max_event_time_ahead_minutes: Annotated[
        Positive, about("an event time further ahead of its record's own time is a dead letter, `from-the-future`")
    ] = 60
    drift_counting: Annotated[bool, about("whether workers count what they score, for drift to be seen")] = True
    allowed_lateness_minutes: Annotated[
        Positive, about("how long after its minute has passed, in event time, a transaction is still counted")
    ] = 10
    idle_partition_timeout_minutes: Annotated[
        Positive,
        about(
            "skew between partitions that is tolerated, in event time; one that trails by more and has nothing left to "
            "count is not waited for"
        ),
    ] = 60
    drift_lookback_days: Annotated[
        Positive,
        about("how far back the monitor reads at its start, but at most 200,000 decisions and 250,000 labels"),
    ] = 7
    retrain_sustained_hours: Annotated[
        Positive, about("how long drift must last, in event time, before retraining is asked for")
    ] = 6
    retrain_lookback_days: Annotated[
        Positive,
        about("days of transactions that a request for retraining asks to read; `tamiz topics create` keeps so many"),
    ] = 90
    retrain_attempts: Annotated[Positive, about("how often the retrainer tries to answer one request")] = 4
    retrain_backoff_seconds: Annotated[
        Positive, about("how long it waits after a first failure; twice as long after each further one")
    ] = 60
    retrain_timeout_seconds: Annotated[Positive, about("how long one training may take")] = 3600
    drain_timeout_seconds: Annotated[
        Positive,
        about("how long a stopping worker may take to decide what it has consumed; 10 s later every program is ended"),
    ] = 25
    startup_timeout_seconds: Annotated[
        Natural, about("how long a starting worker waits for broker and champion; 0: not at all")
    ] = 60
    stall_timeout_seconds: Annotated[
        Positive, about("a worker that decides nothing for so long while transactions wait ends, to be started again")
    ] = 120
    slack_webhook: Annotated[
        Secret | None, about("URL of a Slack-compatible incoming webhook to tell of alerts; never shown")
    ] = None
    slack_min_severity: Annotated[Severity, about("least severity it is told: `info`, `warning` or `critical`")] = (
        "info"
    )
    webhook_url: Annotated[
        Secret | None, about("URL that is told of alerts in signed JSON (docs/notifications.md); never shown")
    ] = None
    webhook_secret: Annotated[Secret | None, about("with `webhook_url`: key of the signature; never shown")] = None
    webhook_format: Annotated[
        Literal["tamiz", "opsgenie"], about("shape of that JSON: `tamiz`, or an alert for `opsgenie`")
    ] = "tamiz"
    webhook_min_severity: Annotated[Severity, about("least severity it is told")] = "info"
    smtp_host: Annotated[Name | None, about("mail server that takes our mail of alerts")] = None
    smtp_port: Annotated[Port, about("its port; with `tls` mostly 465")] = 587
    smtp_security: Annotated[
        Literal["none", "starttls", "tls"], about("how it is spoken to: `starttls`, `tls` from the start, or `none`")
    ] = "starttls"
    smtp_username: Annotated[Name | None, about("who we are to it, where it asks")] = None
    smtp_password: Annotated[Secret | None, about("with `smtp_username`: the password; never shown")] = None
    mail_from: Annotated[Name | None, about("with `smtp_host`: sender of the mail")] = None
    mail_to: Annotated[Name | None, about("with `smtp_host`: who gets it, `address[,address]`")] = None
    mail_min_severity: Annotated[Severity, about("least severity they are told")] = "info"
    allow_plaintext_channels: Annotated[
        bool, about("whether webhooks by `http` and mail without TLS may leave this machine")
    ] = False
    web_host: Annotated[Name, about("address of all pages: health and metrics, the live page")] = "127.0.0.1"
    web_port: Annotated[Port, about("port of a worker's pages; 0 takes a free one")] = 6066
    dashboard_port: Annotated[Port, about("port of the live page; 0 takes a free one")] = 6067
    monitor_port: Annotated[Port, about("port of the monitor's health and metrics; 0 takes a free one")] = 6068
    web_users_file: Annotated[
        Path | None,
        about("file of the pages' users, their roles and hashed tokens (`tamiz users add`); needed beyond loopback"),
    ] = None
    web_hosts: Annotated[
        Name | None, about("names that the live page goes by besides loopback's, `name[,name]`, without port")
    ] = None
    web_trusted_proxies: Annotated[
        Name | None,
        about("addresses or networks, comma-separated, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed"),
    ] = None
    log_level: Annotated[
        Annotated[str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$")], about("`DEBUG`, `INFO`, `WARNING` or `ERROR`")
    ] = "INFO"
    log_format: Annotated[Literal["text", "json"], about("a log of lines for people, or of one JSON object a line")] = (
        "text"
    )

    @property
    def bootstrap(self) -> ClusterAddress:
        """The brokers to speak to, the default filled in, and how to be let in."""
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

    @property
    def tracking_uri(self) -> str:
        """The registry to speak to, the default filled in."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.state_dir.resolve() / 'mlflow.db'}"

    @property
    def registry_name(self) -> str:
        """The registry's address for people, without credentials."""
        return without_credentials(self.tracking_uri)


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    environ: the environment, ``TAMIZ_*`` and MLflow's own variables are looked at.
    Raises ConfigError naming the setting, the value and the remedy.
    """
    values = _from_file(environ)
    fields = {f.name: f for f in msgspec.structs.fields(Settings)}
    values |= {name: environ[variable] for variable, name in VARIABLES.items() if environ.get(variable)}
    for variable, text in environ.items():
        if not variable.startswith("TAMIZ_") or variable == "TAMIZ_CONFIG" or not text:
            continue
        name = variable.removeprefix("TAMIZ_").lower()
        if name not in fields:
            raise ConfigError(f"{variable}: there is no such setting; {_nearest(name, fields)}")
        values[name] = text
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{name} in tamiz.toml: there is no such setting; {_nearest(name, fields)}")
        try:
            values[name] = msgspec.convert(value, fields[name].type, strict=False, dec_hook=_from_text)
        except msgspec.ValidationError as error:
            shown = "***" if name in SECRETS else without_credentials(repr(value))
            raise ConfigError(f"setting {name} (TAMIZ_{name.upper()}) is {shown}: {error}") from None
    check_access(values)
    settle_access(values)
    check_receivers(values)
    page_names(values.get("web_hosts"))
    networks(values.get("web_trusted_proxies"))
    if "artifact_root" in values and not values.get("mlflow_tracking_uri", "sqlite:").startswith("sqlite:"):
        raise ConfigError(
            f"artifact_root is {values['artifact_root']!r}, and the server of mlflow_tracking_uri decides "
            "itself where artifacts are kept (its --artifacts-destination): leave artifact_root unset"
        )
    return Settings(**values)


def _nearest(name: str, known: Collection[str]) -> str:
    # The value is not repeated: it may be a secret under a mistyped name.
    found = difflib.get_close_matches(name.lower(), known, n=1)
    return (f"did you mean {found[0]}? " if found else "") + "`tamiz settings` lists them"


def java_home(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The Java that the machine's own variable `JAVA_HOME` names; the embedded broker looks there first."""
    home = environ.get("JAVA_HOME")
    return Path(home) if home else None


def describe() -> list[tuple[str, Any, str]]:
    """Name, default and meaning of every setting, in the order they stand."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        (f.name, f.default, next(m.description for m in reversed(hints[f.name].__metadata__) if m.description))
        for f in msgspec.structs.fields(Settings)
    ]


def _from_text(type_: type, value: Any) -> Any:
    if type_ in (Path, Secret) and isinstance(value, str):
        return type_(value)
    raise TypeError(f"wanted a text, not {type(value).__name__}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get("TAMIZ_CONFIG")
    path = Path(named or "tamiz.toml")
    if not path.is_file():
        if named:
            raise ConfigError(f"TAMIZ_CONFIG={named!r}: there is no such file")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
