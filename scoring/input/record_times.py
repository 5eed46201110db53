"""Check of event times against the timestamp of their Kafka record. Pure.

The producer states when a transaction happened; the record's timestamp states when it was written (`CreateTime` by the
producer, `LogAppendTime` by the broker). A transaction cannot happen long after its record was written. It may happen
long before: a replay of an old history has event times years before its timestamps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.time_units import MINUTE_MS
from scoring.arrays import Ints
from scoring.input.value_parsing import Fault, Faults

NO_TIMESTAMP = -1  # Kafka's value for a record without timestamp
# Kafka's first release. An earlier timestamp is invalid: -1, zero, or seconds instead of milliseconds.
MIN_RECORD_TIME_MS = 1_293_840_000_000  # 2011-01-01


class RecordTimes(NamedTuple):
    """Timestamps of the records of a batch."""

    ms: Sequence[int] | Ints  # one per record; NO_TIMESTAMP if it has none
    max_ahead_ms: int  # maximum lead of an event time over the record's timestamp


def find_future_times(event_times_ms: Ints, raw: Sequence[Any], records: RecordTimes) -> Faults:
    """Faults of the event times that are too far ahead of their record's timestamp.

    event_times_ms, raw, records.ms: one element per row. Timestamps before `MIN_RECORD_TIME_MS` are ignored. Timestamps
    in the future are accepted, because the watermark is robust against them (`monitoring.counting.panes`).
    """
    times = np.asarray(records.ms, dtype=np.int64)
    ahead = (event_times_ms - times > records.max_ahead_ms) & (times >= MIN_RECORD_TIME_MS)
    return {
        i: Fault("from-the-future", raw[i], _expected(int(times[i]), records)) for i in np.flatnonzero(ahead).tolist()
    }


def _expected(time_ms: int, records: RecordTimes) -> str:
    written = np.datetime_as_string(np.datetime64(time_ms, "ms"), unit="s", timezone="UTC")
    return (
        f"at most {records.max_ahead_ms // MINUTE_MS} min (max_event_time_ahead_minutes) after the record's timestamp, "
        f"{written}: correct the date, its time zone or the producer's clock, then redrive"
    )
