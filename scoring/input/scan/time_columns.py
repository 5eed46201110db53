"""Event times of scanned rows, and the columns that are derived from them; compiled."""

import numpy as np

from schemas.records import MAX_TIME_MS
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Ints
from scoring.compilation import compiled_without_allocation
from scoring.input.record_times import MIN_RECORD_TIME_MS
from scoring.input.scan.scan_arrays import ScanBuffers, ScanPlan


@compiled_without_allocation
def derive_columns(plan: ScanPlan, out: ScanBuffers, record_ms: Ints, max_ahead_ms: int) -> bool:
    """Derive hour and day of the week from event times; returns whether all rows are scanned.

    record_ms: timestamps of the records, or empty; a row whose event time is too far ahead of it is left to the
    general path.
    """
    every = True
    hour, day = plan.derived_column, plan.derived_column + 1
    for row in range(len(out.fast)):
        time_ms = out.event_time_ms[row]
        if out.fast[row] and len(record_ms) > 0 and record_ms[row] >= MIN_RECORD_TIME_MS:
            out.fast[row] = time_ms - record_ms[row] <= max_ahead_ms
        if out.fast[row]:
            out.values[hour, row] = time_ms % DAY_MS // HOUR_MS
            out.values[day, row] = (time_ms // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
        else:
            every = False
    return every


@compiled_without_allocation
def set_event_times(plan: ScanPlan, out: ScanBuffers, record_ms: Ints, max_ahead_ms: int) -> bool:
    """Local times and hours to event times, as `scoring.input.event_times` does.

    A row that would have a fault is left to the general path. In UTC, columns are derived, too; returns whether all
    rows are scanned. In another zone, the event times are local and the caller resolves them; for it, the column of
    the time of day becomes whether the row states only a date.
    """
    at = plan.time_column
    for row in range(len(out.fast)):
        if not out.fast[row]:
            continue
        local_ms, has_time = np.int64(out.values[at, row]), out.values[at + 2, row] != 0
        is_date = not has_time
        if plan.hour_column >= 0:
            hour = out.values[plan.hour_column, row]
            if np.isnan(hour):
                if not has_time:
                    out.fast[row] = False
            elif not 0 <= hour <= 23 or hour != np.floor(hour):
                out.fast[row] = False
            else:
                time_of_day = local_ms % DAY_MS
                if not has_time or time_of_day == 0:
                    local_ms += np.int64(hour) * HOUR_MS
                    is_date = False
                elif time_of_day // HOUR_MS != np.int64(hour):
                    out.fast[row] = False
        out.values[at + 2, row] = 1.0 if is_date else 0.0
        if plan.is_utc:
            local_ms -= np.int64(out.values[at + 1, row])
            if not 0 <= local_ms < MAX_TIME_MS:
                out.fast[row] = False
        out.event_time_ms[row] = local_ms
    return derive_columns(plan, out, record_ms, max_ahead_ms) if plan.is_utc else False
