"""Settings, read from the environment and from `tamiz.toml`. No other module reads either.

The setting ``web_port`` is ``TAMIZ_WEB_PORT`` in the environment and ``web_port`` in the file. The environment has
precedence over the file.
The file is ``tamiz.toml`` in the working directory, or the file that ``TAMIZ_CONFIG`` names.
MLflow's own variables (``MLFLOW_TRACKING_URI`` and its credentials) are read, too.
"""

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from schemas.configuration.kafka_config import Secret, check_access
from schemas.configuration.notification_settings import check_channels
from schemas.configuration.registry_config import VARIABLES, resolve_credentials
from schemas.configuration.setting_types import Name, Natural, OffsetReset, Port, Positive, Share, about
from schemas.configuration.settings_file import read_settings_file
from schemas.configuration.threshold_settings import ThresholdSettings
from schemas.errors import ConfigError
from schemas.records import Severity
from schemas.security.hosts import networks, page_names
from schemas.security.sanitizer import without_credentials

SECRETS = frozenset(
    {"sasl_password", "mlflow_password", "mlflow_token", "slack_webhook", "smtp_password"}
    | {"webhook_secret", "webhook_url", "teams_webhook", "opsgenie_api_key", "pagerduty_routing_key"}
)


class Settings(ThresholdSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one installation; created by `load`."""

    dataset: Annotated[
        Name, about("declaration of the data set: the name of one that ships with Tamiz, or the path of a TOML file")
    ] = "card_transactions"
    model_name: Annotated[Name, about("name of the registered model")] = "card-transactions"
    state_dir: Annotated[Path, about("folder of the local registry, the cached bundles and the worker state")] = Path(
        ".tamiz"
    )
    mlflow_tracking_uri: Annotated[
        Name | None,
        about("MLflow tracking and registry server (also `MLFLOW_TRACKING_URI`); unset: SQLite in `state_dir`"),
    ] = None
    mlflow_username: Annotated[
        Name | None, about("user name for basic authentication at MLflow (also `MLFLOW_TRACKING_USERNAME`)")
    ] = None
    mlflow_password: Annotated[
        Secret | None, about("password of `mlflow_username` (also `MLFLOW_TRACKING_PASSWORD`); never shown")
    ] = None
    mlflow_token: Annotated[
        Secret | None,
        about("bearer token for MLflow, instead of user and password (also `MLFLOW_TRACKING_TOKEN`); never shown"),
    ] = None
    mlflow_cafile: Annotated[
        Path | None,
        about(
            "PEM file of the certificate authorities that MLflow's certificate is checked against (also "
            "`MLFLOW_TRACKING_SERVER_CERT_PATH`)"
        ),
    ] = None
    artifact_root: Annotated[
        Name | None,
        about("with SQLite: location of models and reports, e.g. `s3://BUCKET/FOLDER`; unset: in `state_dir`"),
    ] = None
    promotion: Annotated[
        Literal["automatic", "approval"],
        about("`automatic`: a challenger that beats the champion is promoted; `approval`: it waits for a person"),
    ] = "automatic"
    promotion_margin: Annotated[
        Share, about("minimum lead in ROC AUC, at the lower confidence bound, of a challenger over the champion")
    ] = 0.0
    unrecorded_champion: Annotated[
        Literal["refuse", "serve"],
        about(
            "when the alias `champion` differs from the promotion history: `refuse` the alias and use the "
            "history's champion, or `serve` the alias"
        ),
    ] = "refuse"
    reviews_per_day: Annotated[
        Positive,
        about(
            "number of cards, or transactions, that the team reviews per day: k of precision@k, and the budget of "
            "the value detected; see docs/training.md"
        ),
    ] = 100
    label_delay_days: Annotated[
        Natural, about("days until a transaction's label is final; also the gap between training and test period")
    ] = 0
    registry_poll_seconds: Annotated[
        Positive, about("interval at which a worker asks the registry for the champion")
    ] = 15
    processing_guarantee: Annotated[
        Literal["at-least-once", "exactly-once"],
        about("after a crash, decisions may repeat (`at-least-once`) or not (`exactly-once`); see docs/guarantees.md"),
    ] = "at-least-once"
    offset_reset: Annotated[
        OffsetReset,
        about(
            "when the offset of a partition does not fit the log (truncated, expired, topic recreated): `stop` "
            "the partition until a person acts, `skip-and-count`, or `from-beginning`; see docs/guarantees.md"
        ),
    ] = "stop"
    batch_max_records: Annotated[Positive, about("maximum number of transactions per batch")] = 2000
    max_payload_bytes: Annotated[Positive, about("maximum size of a payload; a larger one becomes a dead letter")] = (
        65_536
    )
    max_event_time_ahead_minutes: Annotated[
        Positive,
        about(
            "maximum lead of the event time over the record's timestamp; beyond it the transaction becomes a "
            "dead letter, `from-the-future`"
        ),
    ] = 60
    allowed_lateness_minutes: Annotated[
        Positive,
        about(
            "allowed lateness: a minute closes when the watermark has passed its end by this much, in event "
            "time; later transactions are scored but not counted"
        ),
    ] = 10
    idle_partition_timeout_minutes: Annotated[
        Positive,
        about(
            "stop waiting for a partition whose watermark lags the furthest partition by more than this, in "
            "event time, and that has nothing left to count"
        ),
    ] = 60
    profile_snapshot_seconds: Annotated[
        Positive,
        about(
            "interval at which a worker saves the profiles of each partition in `state_dir`; what came since is read "
            "again after a crash"
        ),
    ] = 300
    profile_snapshot_root: Annotated[
        Name | None,
        about(
            "folder or artifact URI that all workers share, e.g. `s3://BUCKET/FOLDER` or `mlflow-artifacts:/profiles`, "
            "for a copy of each snapshot of profiles; unset: in `state_dir` only"
        ),
    ] = None
    drift_lookback_days: Annotated[
        Positive,
        about(
            "how far back the monitor reads decisions and labels at start, up to 200,000 decisions and 250,000 labels"
        ),
    ] = 7
    retrain_sustained_hours: Annotated[
        Positive, about("how long drift must last, in event time, before the monitor requests retraining")
    ] = 6
    retrain_lookback_days: Annotated[
        Positive,
        about(
            "days of transactions used for retraining; also the retention that `tamiz topics create` sets for "
            "transactions and labels (7 days at least)"
        ),
    ] = 90
    retrain_attempts: Annotated[Positive, about("maximum number of attempts to answer one retrain request")] = 4
    retrain_backoff_seconds: Annotated[
        Positive, about("delay before the second attempt; doubles with each further one")
    ] = 60
    retrain_timeout_seconds: Annotated[Positive, about("maximum duration of one training")] = 3600
    drain_timeout_seconds: Annotated[
        Positive,
        about(
            "time limit for a stopping worker to finish the transactions it has consumed; every program exits "
            "10 s after it at the latest"
        ),
    ] = 25
    startup_timeout_seconds: Annotated[
        Natural, about("how long a starting worker waits for the broker and the champion; 0: does not wait")
    ] = 60
    stall_timeout_seconds: Annotated[
        Positive,
        about(
            "watchdog: a worker that commits no offset while transactions wait reports not-ready after half this "
            "time and exits after all of it"
        ),
    ] = 120
    slack_webhook: Annotated[
        Secret | None, about("URL of a Slack-compatible incoming webhook for alerts; never shown")
    ] = None
    slack_min_severity: Annotated[
        Severity, about("minimum severity sent to Slack: `info`, `warning` or `critical`")
    ] = "info"
    teams_webhook: Annotated[Secret | None, about("URL of a workflow's webhook in Microsoft Teams; never shown")] = None
    teams_min_severity: Annotated[Severity, about("minimum severity sent to Microsoft Teams")] = "info"
    opsgenie_api_key: Annotated[Secret | None, about("key of an API integration in Opsgenie; never shown")] = None
    opsgenie_url: Annotated[
        Name, about("address of Opsgenie's API; accounts in the EU: `https://api.eu.opsgenie.com`")
    ] = "https://api.opsgenie.com"
    opsgenie_min_severity: Annotated[
        Severity, about("minimum severity that creates an Opsgenie alert; every resolution closes its alert")
    ] = "info"
    pagerduty_routing_key: Annotated[
        Secret | None, about("integration key of PagerDuty's Events API v2, 32 characters; never shown")
    ] = None
    pagerduty_url: Annotated[
        Name, about("address of PagerDuty's Events API; accounts in the EU: `https://events.eu.pagerduty.com`")
    ] = "https://events.pagerduty.com"
    pagerduty_min_severity: Annotated[
        Severity, about("minimum severity that triggers a PagerDuty alert; every resolution resolves its alert")
    ] = "info"
    webhook_url: Annotated[
        Secret | None, about("URL of a webhook for alerts as signed JSON (docs/notifications.md); never shown")
    ] = None
    webhook_secret: Annotated[Secret | None, about("key that signs the webhook's requests; never shown")] = None
    webhook_min_severity: Annotated[Severity, about("minimum severity sent to the webhook")] = "info"
    smtp_host: Annotated[Name | None, about("mail server for alerts by mail")] = None
    smtp_port: Annotated[Port, about("port of the mail server; usually 465 with `tls`")] = 587
    smtp_security: Annotated[
        Literal["none", "starttls", "tls"], about("encryption of the SMTP connection: `starttls`, `tls` or `none`")
    ] = "starttls"
    smtp_username: Annotated[Name | None, about("user name at the mail server, if it requires one")] = None
    smtp_password: Annotated[Secret | None, about("password of `smtp_username`; never shown")] = None
    mail_from: Annotated[Name | None, about("sender address of alerts by mail")] = None
    mail_to: Annotated[Name | None, about("recipients of alerts by mail, `address[,address]`")] = None
    mail_min_severity: Annotated[Severity, about("minimum severity sent by mail")] = "info"
    allow_plaintext_channels: Annotated[
        bool, about("allow webhooks over `http` and mail without TLS to other machines")
    ] = False
    web_host: Annotated[Name, about("address that health, metrics and the dashboard listen on")] = "127.0.0.1"
    web_port: Annotated[Port, about("port of a worker's health and metrics; 0: any free port")] = 6066
    dashboard_port: Annotated[Port, about("port of the dashboard; 0: any free port")] = 6067
    monitor_port: Annotated[Port, about("port of the monitor's health and metrics; 0: any free port")] = 6068
    web_users_file: Annotated[
        Path | None,
        about(
            "file of web users, their roles and hashed tokens (`tamiz users add`); required unless `web_host` "
            "is a loopback address"
        ),
    ] = None
    web_hosts: Annotated[
        Name | None, about("host names of the dashboard other than loopback, `name[,name]`, without port")
    ] = None
    web_trusted_proxies: Annotated[
        Name | None,
        about(
            "addresses or networks of trusted reverse proxies, comma-separated; only their `X-Forwarded-For` "
            "and `X-Forwarded-Proto` are used"
        ),
    ] = None
    log_level: Annotated[
        Annotated[str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$")], about("`DEBUG`, `INFO`, `WARNING` or `ERROR`")
    ] = "INFO"
    log_format: Annotated[Literal["text", "json"], about("log format: `text`, or `json` with one object per line")] = (
        "text"
    )

    @property
    def tracking_uri(self) -> str:
        """URI of the registry, with the default applied."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.state_dir.resolve() / 'mlflow.db'}"

    @property
    def registry_name(self) -> str:
        """URI of the registry for messages, without credentials."""
        return without_credentials(self.tracking_uri)


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings.

    environ: environment variables; ``TAMIZ_*`` and MLflow's own are read.
    Raises ConfigError, which names the setting, the value and the remedy.
    """
    values = read_settings_file(environ)
    fields = {f.name: f for f in msgspec.structs.fields(Settings)}
    values |= {name: environ[variable] for variable, name in VARIABLES.items() if environ.get(variable)}
    for variable, text in environ.items():
        if not variable.startswith("TAMIZ_") or variable == "TAMIZ_CONFIG" or not text:
            continue
        name = variable.removeprefix("TAMIZ_").lower()
        if name not in fields:
            raise ConfigError(f"{variable}: no such setting; {_nearest(name, fields)}")
        values[name] = text
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{name} in tamiz.toml: no such setting; {_nearest(name, fields)}")
        try:
            values[name] = msgspec.convert(value, fields[name].type, strict=False, dec_hook=_from_text)
        except msgspec.ValidationError as error:
            shown = "***" if name in SECRETS else without_credentials(repr(value))
            raise ConfigError(f"setting {name} (TAMIZ_{name.upper()}) is {shown}: {error}") from None
    check_access(values)
    resolve_credentials(values)
    check_channels(values)
    page_names(values.get("web_hosts"))
    networks(values.get("web_trusted_proxies"))
    if "artifact_root" in values and not values.get("mlflow_tracking_uri", "sqlite:").startswith("sqlite:"):
        raise ConfigError(
            f"artifact_root is {values['artifact_root']!r}, but the MLflow server of mlflow_tracking_uri has its own "
            "location for artifacts (--artifacts-destination): unset artifact_root"
        )
    return Settings(**values)


def _nearest(name: str, known: Collection[str]) -> str:
    # The message does not show the value: it may be a secret under a misspelt name.
    found = difflib.get_close_matches(name.lower(), known, n=1)
    return (f"did you mean {found[0]}? " if found else "") + "`tamiz settings` lists them"


def java_home(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Java installation named by `JAVA_HOME`, or None; the embedded broker tries it first."""
    home = environ.get("JAVA_HOME")
    return Path(home) if home else None


def describe() -> list[tuple[str, Any, str]]:
    """Name, default and help text of every setting, in order of declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        (f.name, f.default, next(m.description for m in reversed(hints[f.name].__metadata__) if m.description))
        for f in msgspec.structs.fields(Settings)
    ]


def _from_text(type_: type, value: Any) -> Any:
    if type_ in (Path, Secret) and isinstance(value, str):
        return type_(value)
    raise TypeError(f"expected a string, not {type(value).__name__}")
