"""A known-good transaction, to test whether anything can be decided at all. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Field, MappingEntry

EVENT_TIME, EVENT_TIME_MS = "2020-01-06T12:00:00Z", 1_578_312_000_000


@dataclass
class Probe:
    """A record that was not consumed from a topic."""

    value: bytes | None
    topic: str = "probe"
    partition: int = 0
    offset: int = 0
    timestamp: int = EVENT_TIME_MS
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


def good_payload(dataset: Dataset) -> bytes:
    """A payload with every required field of the data set, which cleaning accepts."""
    values = {field.name: _value(field) for field in dataset.fields if field.required}
    key = {dataset.key: "probe"} if dataset.key else {}
    return msgspec.json.encode(values | key | {dataset.event_time.parts[0]: EVENT_TIME})


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
