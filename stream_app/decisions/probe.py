"""A known-good transaction, to test whether anything can be decided at all. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Field, MappingEntry

EVENT_TIME = datetime(2020, 1, 6, 12, tzinfo=UTC)  # a local time of this date and hour is unique in every zone
RECORD_TIME_MS = 1_578_398_400_000  # a day later, and so after that local time


@dataclass
class Probe:
    """A record that was not consumed from a topic."""

    value: bytes | None
    topic: str = "probe"
    partition: int = 0
    offset: int = 0
    timestamp: int = RECORD_TIME_MS
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


def good_payload(dataset: Dataset) -> bytes:
    """A payload with every required field of the data set, which cleaning accepts."""
    values = {field.name: _value(field) for field in dataset.fields if field.required}
    key = {dataset.key: "probe"} if dataset.key else {}
    return msgspec.json.encode(values | key | _event_time(dataset))


def _event_time(dataset: Dataset) -> dict[str, object]:
    """The fields of the event time; the text of several parts may be in the first one, for they are joined."""
    time, form = dataset.event_time, dataset.time_format
    if form.reads_iso:
        return {time.parts[0]: EVENT_TIME.isoformat()}
    written: dict[str, object] = {time.parts[0]: EVENT_TIME.strftime(form.formats[0].text)}
    return written if form.formats[0].has_time or time.hour is None else written | {time.hour: EVENT_TIME.hour}


def _value(field: Field | MappingEntry) -> object:
    match field.kind:
        case "number":
            return max(0.0 if field.max is None else min(0.0, field.max), field.min or 0.0)
        case "boolean":
            return True
        case "category":
            return "probe"
        case "mapping":
            return {}
