"""Reads the workers' counts from `drift-panes`, summed by day, week or month."""

import logging
from collections.abc import Callable

from monitoring.counting.bins import FrozenBins
from monitoring.drift.calendar import Calendar, CalendarCounts
from monitoring.drift.drift_report import PeriodCounts
from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.records import PaneSnapshot
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import read_to_end

log = logging.getLogger("tamiz.drift")


def read_periods(
    settings: Settings,
    bins: FrozenBins,
    calendar: Calendar,
    *,
    model_version: int,
    progress: Callable[[int, int], None] = lambda read, of: None,
) -> list[PeriodCounts]:
    """Counts of one model version by day, week or month, in order of time; at least one period.

    progress: called with the number of offsets read and the total.
    Raises BrokerError if the broker does not respond, or the topic has no panes of this version.
    """
    topic = settings.drift_panes_topic
    intake = RecordIntake(settings, log)
    found = CalendarCounts(bins, model=settings.model_name, model_version=model_version)
    for records in read_to_end(settings.bootstrap, topic, progress, keep_bytes=MAX_RECORD_BYTES):
        for record in records:
            if record.value is None or (snapshot := intake.read_ours(record, PaneSnapshot)) is None:
                continue
            try:
                found.update(snapshot)
            except ValueError as error:
                intake.skip(record, str(error))
    periods = found.periods(calendar)
    if not periods:
        raise BrokerError(
            f"topic {topic} has no panes of {settings.model_name} version {model_version}: no worker has counted with "
            "it, or retention deleted them; choose another version with --version"
        )
    return periods
