"""The notification that a drift alert or a model event becomes: how urgent it is, and in which words. Pure.

Each channel in `tamiz/notifications/channels/` turns it into what its receiver takes.
"""

import msgspec

from schemas.records import DriftAlert, ModelEvent, Severity
from schemas.security.sanitizer import printable

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
RESOLUTIONS = frozenset({"closed", "promoted", "retained", "rejected"})  # after which nobody has anything to do
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

    @property
    def resolved(self) -> bool:
        """Whether what `alias` names is over: an alert that is open for it can be closed."""
        return self.change in RESOLUTIONS


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
        alias=_line(alias, MAX_TITLE_LENGTH) or id_,
        change=record.change,
        severity=severity,
        title=_line(f"{record.model}{version}: {title}", MAX_TITLE_LENGTH),
        text=_line(text, MAX_TEXT_LENGTH),
        model=_line(record.model, MAX_TITLE_LENGTH),
        model_version=record.model_version,
        happened_at_ms=record.happened_at_ms,
    )


def _line(text: str, longest: int) -> str:
    return printable(" ".join(text[: longest * 2].split()), longest)
