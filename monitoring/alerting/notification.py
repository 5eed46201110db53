"""Notifications from drift alerts and model events: severity, title and text. Pure.

Each channel in `tamiz/notifications/channels/` converts them to the format of its service.
"""

import msgspec

from schemas.records import DriftAlert, ModelEvent, Severity
from schemas.security.sanitizer import printable

RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
# A failed training is not critical: the champion continues to decide, and the retrainer tries again.
CHANGES: dict[str, Severity] = {
    "training-failed": "warning",
    "awaiting-approval": "warning",
    "rolled-back": "warning",
    "rejected": "info",
    "retained": "info",
    "promoted": "info",
}
RESOLUTIONS = frozenset({"closed", "promoted", "retained", "rejected"})  # changes after which no action is needed
MAX_TITLE_LENGTH, MAX_TEXT_LENGTH = 200, 3_000  # characters
MAX_SHOWN_LENGTH = 4  # characters of a card's key


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification to people, in any channel."""

    id: str  # topic-partition-offset of its record; the same if it is sent again
    alias: str  # id of the incident or retraining; channels may group by it
    change: str  # from the record
    severity: Severity
    title: str  # one line of printable characters, like `text`
    text: str
    model: str
    model_version: int | None
    happened_at_ms: int

    @property
    def resolved(self) -> bool:
        """Whether the incident or retraining is finished, so that a channel can close its alert."""
        return self.change in RESOLUTIONS


def notification(record: DriftAlert | ModelEvent, id_: str) -> Notification | None:
    """Notification of a record; None if the record needs none, such as the start of a training.

    Title and text are one printable line each, of limited length, for any content of the record.
    """
    if isinstance(record, DriftAlert):
        alias = record.incident_id
        severity: Severity | None = "info" if record.change == "closed" else record.severity
        title, text = f"{record.kind} incident {record.change}", record.summary
        if record.cards:
            text += f". Cards: {', '.join(map(masked, record.cards))}"
        if record.cards and record.kind == "attack" and record.change != "closed":
            text += (
                f". To block them: tamiz lists add stolen --from-alert {record.incident_id} --effect block --reason WHY"
            )
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


def masked(card: str) -> str:
    """The end of a card's key: enough to compare it with a list, not enough to use it.

    >>> masked("4111111111111111"), masked("17")
    ('…1111', '…')
    """
    return "…" + card[len(card) - min(MAX_SHOWN_LENGTH, len(card) // 3) :]


def _line(text: str, longest: int) -> str:
    return printable(" ".join(text[: longest * 2].split()), longest)
