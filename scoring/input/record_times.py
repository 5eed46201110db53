"""Event times held against the time of the record that brought them. Pure.

A producer says when a transaction happened; Kafka says when its record was written (`CreateTime` by the producer,
`LogAppendTime` by the broker). Nothing can have happened long after it was written. The other direction is free: a
replay of an old history has event times years before its records.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.time_units import MINUTE_MS
from scoring.arrays import Ints
from scoring.input.value_parsing import Fault, Faults

NO_TIMESTAMP = -1  # Kafka's own, of a record that has none
# Kafka's first release. A record time before it is no time: -1, a zero, or seconds in the place of milliseconds.
MIN_RECORD_TIME_MS = 1_293_840_000_000  # 2011-01-01


class RecordTimes(NamedTuple):
    """When the records of a batch were written."""

    ms: Sequence[int] | Ints  # of each record; NO_TIMESTAMP where it has none
    max_ahead_ms: int  # an event time further ahead of its record's is refused


def from_the_future(event_times_ms: Ints, raw: Sequence[Any], records: RecordTimes) -> Faults:
    """Which event times lie too far ahead of their record's own.

    event_times_ms, raw, records.ms: one element a row. A record time before `MIN_RECORD_TIME_MS` refutes nothing;
    one that lies in the future itself does not either: against those the watermark is robust
    (`monitoring.counting.panes`).
    """
    times = np.asarray(records.ms, dtype=np.int64)
    ahead = (event_times_ms - times > records.max_ahead_ms) & (times >= MIN_RECORD_TIME_MS)
    return {
        i: Fault("from-the-future", raw[i], _expected(int(times[i]), records)) for i in np.flatnonzero(ahead).tolist()
    }


def _expected(time_ms: int, records: RecordTimes) -> str:
    written = np.datetime_as_string(np.datetime64(time_ms, "ms"), unit="s", timezone="UTC")
    return (
        f"at most {records.max_ahead_ms // MINUTE_MS} min (max_event_time_ahead_minutes) after the record was written, "
        f"{written}: correct the date, its time zone or the producer's clock, then redrive"
    )
