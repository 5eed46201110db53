"""The topic `lists`: its entries read back, and new ones written, by commands and by the page."""

import logging
from collections.abc import Callable, Sequence

import msgspec

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import similar_names
from schemas.errors import RuleError
from schemas.records import DriftAlert
from schemas.rules import ListEntry, list_entry_key
from scoring.rules.type_check import canonical_text, text_fields
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import read_to_end
from stream_app.rules.record_writer import write_records

log = logging.getLogger("tamiz.rules")


def read_list_entries(settings: Settings) -> list[tuple[int, ListEntry]]:
    """The valid records of `lists` with their timestamps in ms since 1970, in order.

    Raises BrokerError if no broker responds or the topic does not exist.
    """
    intake = RecordIntake(settings, log, log_text="skipped, not a valid list entry")
    found = [
        (record.timestamp, entry)
        for records in read_to_end(settings.bootstrap, settings.lists_topic)
        for record in records
        if (entry := intake.read(record, ListEntry)) is not None
    ]
    intake.log_summary(at_once=True)
    return found


def entries_on_lists(entries: Sequence[ListEntry], at_ms: int) -> list[ListEntry]:
    """The entries that are not removed, replaced or expired at a time, in their order. entries: of the topic."""
    last = {list_entry_key(entry): entry for entry in entries}
    return [e for e in last.values() if not e.removed and (e.until_ms is None or at_ms < e.until_ms)]


def write_list_entries(
    settings: Settings,
    dataset: Dataset,
    entries: Sequence[ListEntry],
    progress: Callable[[int], None] = lambda written: None,
) -> list[ListEntry]:
    """Write entries, and wait until they are acknowledged. Returns them with the values as transactions have them.

    progress: as for `write_records`.
    Raises RuleError, before anything is written, if one cannot match a transaction; BrokerError if writing fails: some
    may be written then, and writing them again changes nothing.
    """
    checked = check_entries(dataset, entries)
    records = ((list_entry_key(entry), msgspec.json.encode(entry)) for entry in checked)
    write_records(settings, settings.lists_topic, records, progress)
    return checked


def check_entries(dataset: Dataset, entries: Sequence[ListEntry]) -> list[ListEntry]:
    """The entries with their values as cleaning gives them. Raises RuleError."""
    known = text_fields(dataset)
    checked = []
    for entry in entries:
        if entry.field not in known:
            meant = " or ".join(map(repr, similar_names(entry.field, known)))
            raise RuleError(
                f"field {entry.field!r} cannot be on a list{f'; did you mean {meant}?' if meant else ''}: the data set "
                f"{dataset.name!r} has {', '.join(known)}"
            )
        if (entry.effect == "snooze") != (entry.rule is not None):
            raise RuleError(
                f"effect {entry.effect!r}, rule {entry.rule!r}: a snooze names its rule, other entries name none"
            )
        value = canonical_text(dataset, entry.field, entry.value)
        if value is None:
            raise RuleError(f"value {entry.value!r} of {entry.field!r} is no id, or means a missing one; give a value")
        checked.append(msgspec.structs.replace(entry, value=value))
    try:
        return msgspec.convert(msgspec.to_builtins(checked), list[ListEntry])
    except msgspec.ValidationError as error:
        raise RuleError(f"a list entry is not valid: {error}") from None


def cards_of_alert(settings: Settings, incident_id: str) -> tuple[str, ...]:
    """The cards that the alerts of an incident name, the first one first.

    Raises RuleError if there is no such incident or it names none, BrokerError if no broker responds.
    """
    intake = RecordIntake(settings, log, log_text="skipped, not a valid alert")
    cards: dict[str, None] = {}
    incidents: dict[str, None] = {}
    for records in read_to_end(settings.bootstrap, settings.drift_alerts_topic):
        for record in records:
            if (alert := intake.read_ours(record, DriftAlert)) is not None and alert.cards:
                incidents[alert.incident_id] = None
                if alert.incident_id == incident_id:
                    cards |= dict.fromkeys(alert.cards)
    if not cards:
        known = f"; latest ones that name cards: {', '.join(list(incidents)[-3:])}" if incidents else ""
        raise RuleError(f"no alert of incident {incident_id!r} names a card{known}")
    return tuple(cards)
