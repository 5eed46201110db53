"""A known-good transaction, to test whether anything can be decided at all. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Field
from schemas.dataset.value_formats import NumberFormat

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


def good_payload(dataset: Dataset, event_time: datetime = EVENT_TIME) -> bytes:
    """A payload with every required field of the data set, which cleaning accepts."""
    values = {field.name: _value(dataset, field) for field in dataset.fields if field.required}
    key = {dataset.key: "probe"} if dataset.key else {}
    return msgspec.json.encode(values | key | _event_time(dataset, event_time))


def _event_time(dataset: Dataset, at: datetime) -> dict[str, object]:
    """The fields of the event time; the text of several parts may be in the first one, for they are joined."""
    time, form = dataset.event_time, dataset.time_format
    if form.reads_iso:
        return {time.parts[0]: at.isoformat()}
    written: dict[str, object] = {time.parts[0]: at.strftime(form.formats[0].text)}
    return written if form.formats[0].has_time or time.hour is None else written | {time.hour: at.hour}


def _value(dataset: Dataset, field: Field) -> object:
    match field.kind:
        case "number":
            return _number(field, dataset.number_formats[field.name])
        case "boolean":
            return True
        case "category":
            return "probe"
        case "mapping":
            return {}


def _number(field: Field, form: NumberFormat) -> float | str:
    low = -math.inf if field.min is None else field.min
    high = math.inf if field.max is None else field.max
    value = min(max(0.5, low), high)  # not 0, which may mean a missing value
    if form.percent is None:
        return value
    # Only text has a percent sign. With an exponent, no decimal mark is ambiguous.
    mantissa, exponent = f"{value:.16e}".split("e")
    text = f"{mantissa}e{int(exponent) + (2 if form.percent == 'fraction' else 0)}%"
    return text.replace(".", ",") if form.decimal == "," else text
