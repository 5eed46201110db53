"""What people are told of alerts and of model versions: which records, how urgent, in which words. Pure.

A notification becomes the body of a Slack-compatible webhook, of Opsgenie's alert API, or our own; `signature` goes
beside the last two.
"""

import hashlib
import hmac
from typing import Any

import msgspec

from schemas.records import DriftAlert, ModelEvent, Severity
from schemas.security.sanitizer import chat_text, printable

RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
# A failed training wakes nobody: the champion goes on deciding, and the retrainer tries again.
CHANGES: dict[str, Severity] = {
    "training-failed": "warning",
    "awaiting-approval": "warning",
    "rolled-back": "warning",
    "rejected": "info",
    "retained": "info",
    "promoted": "info",
}
MARKS: dict[Severity, str] = {"info": ":white_check_mark:", "warning": ":warning:", "critical": ":rotating_light:"}
PRIORITIES: dict[Severity, str] = {"info": "P5", "warning": "P3", "critical": "P1"}
MAX_TITLE_LENGTH, MAX_TEXT_LENGTH = 200, 3_000  # characters


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that people are told."""

    id: str  # of the record it is made from, topic-partition-offset: the same however often it is sent
    alias: str  # of what it is about, an incident or a retraining; receivers may fold by it
    change: str  # what became of that, as the record has it
    severity: Severity
    title: str  # one line of printable characters, as `text` is
    text: str
    model: str
    model_version: int | None
    happened_at_ms: int


def notification(record: DriftAlert | ModelEvent, id_: str) -> Notification | None:
    """What to tell of a record; None of what nobody needs to hear, as that a training started.

    Whatever the record's texts hold, those of the notification are one printable line each, of limited length.
    """
    if isinstance(record, DriftAlert):
        alias = record.incident_id
        severity: Severity | None = "info" if record.change == "closed" else record.severity
        title, text = f"{record.kind} incident {record.change}", record.summary
    else:
        severity = CHANGES.get(record.change)
        alias = record.correlation_id or f"{record.model}-{record.model_version}"
        title, text = record.change, f"{record.reason} (by {record.by})"
        if record.change == "awaiting-approval":
            text += f". To decide: tamiz models promote {record.model_version}, or tamiz models reject"
    if severity is None:
        return None
    version = "" if record.model_version is None else f" v{record.model_version}"
    return Notification(
        id=id_,
        alias=_line(alias, MAX_TITLE_LENGTH),
        change=record.change,
        severity=severity,
        title=_line(f"{record.model}{version}: {title}", MAX_TITLE_LENGTH),
        text=_line(text, MAX_TEXT_LENGTH),
        model=_line(record.model, MAX_TITLE_LENGTH),
        model_version=record.model_version,
        happened_at_ms=record.happened_at_ms,
    )


def slack(notice: Notification) -> bytes:
    """The body of a Slack-compatible incoming webhook.

    >>> told = ModelEvent(model="m", model_version=2, change="promoted", reason="AUC < 1", by="ana", happened_at_ms=0)
    >>> slack(notification(told, "model-events-0-7"))
    b'{"text":":white_check_mark: `m v2: promoted`\\\\n`AUC &lt; 1 (by ana)`"}'
    """
    title, text = chat_text(notice.title), chat_text(notice.text)  # nothing that a record brings may ping a channel
    return msgspec.json.encode({"text": f"{MARKS[notice.severity]} {title}\n{text}"})


def tamiz(notice: Notification) -> bytes:
    """The body of our own webhook: the notification as it is."""
    return msgspec.json.encode(notice)


def opsgenie(notice: Notification) -> bytes:
    """The body of a new alert as Opsgenie's API takes it, within its limits: `message` may have 130 characters."""
    body: dict[str, Any] = {
        "message": notice.title[:130],
        "alias": notice.alias,
        "description": notice.text,
        "priority": PRIORITIES[notice.severity],
        "source": "tamiz",
        "entity": notice.model,
        "tags": [notice.change, notice.severity],
        "details": {"id": notice.id, "model_version": str(notice.model_version or "")},
    }
    return msgspec.json.encode(body)


def signature(body: bytes, secret: str, at_s: int) -> str:
    """The header `Tamiz-Signature`: HMAC-SHA256 of `at_s.body`, so that an old body cannot be sent again as new.

    >>> signature(b"{}", "key", 0)[:20]
    't=0,v1=7314351dd949a'
    """
    digest = hmac.new(secret.encode(), b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _line(text: str, longest: int) -> str:
    return printable(" ".join(text[: longest * 2].split()), longest)
