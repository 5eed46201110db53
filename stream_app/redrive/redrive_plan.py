"""Selects the dead letters to send back, and their headers. Pure.

A transaction id consumed at one place of `transactions` is sent back once. A dead letter written twice has the same
place and is sent back once. A payload that was sent back and failed again was consumed at another place and may be sent
again; so may another payload with the same id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.dataset.declaration import Dataset
from schemas.records import Redrive, Rejection
from schemas.transaction_ids import MAX_ID_LENGTH, TOPIC_ID_HEADER, TRANSACTION_ID_HEADER, place
from scoring.input.cleaning import clean_payloads
from stream_app.decisions import dead_letters
from stream_app.decisions.dead_letters import DeadLetter
from stream_app.kafka.topic_reader import ConsumedRecord
from stream_app.redrive.originals import Truncation, read_truncation

REDRIVEN_FROM = "tamiz-redriven-from"  # the place of the dead letter
# Headers of a dead letter that are not sent back: the reason, what was truncated, and those that are set again.
_DROPPED_HEADERS = (
    dead_letters.PREFIX,
    dead_letters.ERROR_PREFIX,
    dead_letters.TRUNCATED_PREFIX,
    TRANSACTION_ID_HEADER,
    TOPIC_ID_HEADER,
    REDRIVEN_FROM,
)


RedriveId = tuple[str, str]  # transaction id, and the place it was consumed from


class Letter(NamedTuple):
    """A dead letter and its place on the topic."""

    place: str  # with the topic id, so that it stays unique if the topic is recreated
    about: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    truncation: Truncation | None = None  # None: it is whole


class RedrivePlan(NamedTuple):
    """Dead letters by what to do with them: each is in exactly one list, or was sent back before."""

    valid: list[Letter]  # to send back
    invalid: list[tuple[Letter, Rejection]]
    sent_before: int


def read_letter(record: ConsumedRecord, topic_id: str) -> Letter | None:
    """Decode a record of the dead-letter topic; None if its headers name no origin or no usable transaction id.

    topic_id: Kafka's id of the dead-letter topic.
    """
    about = dead_letters.read(record.headers)
    if (
        about is None or max(len(about.transaction_id), len(about.origin)) > MAX_ID_LENGTH
    ):  # the record on `redrives` could not hold it
        return None
    return Letter(
        place(record.topic, record.partition, record.offset, topic_id),
        about,
        record.key,
        record.value,
        record.headers,
        read_truncation(record.headers),
    )


def plan(
    letters: Iterable[Letter],
    redriven: set[RedriveId],
    dataset: Dataset,
    *,
    max_payload_bytes: int,
    replacements: Mapping[str, bytes],
) -> RedrivePlan:
    """Select the dead letters to send back and add them to `redriven`.

    redriven: the dead letters that were sent back before; updated.
    replacements: transaction id -> payload to send instead.
    """
    letters = [letter._replace(value=replacements.get(letter.about.transaction_id, letter.value)) for letter in letters]
    cleaned = clean_payloads(dataset, [letter.value for letter in letters], max_payload_bytes=max_payload_bytes)
    rejections = {rejection.row: rejection for rejection in cleaned.rejections}
    chosen = RedrivePlan([], [], 0)
    sent_before = 0
    for row, letter in enumerate(letters):
        if redrive_id(letter) in redriven:
            sent_before += 1
        elif rejection := rejections.get(row):
            chosen.invalid.append((letter, rejection))
        else:
            redriven.add(redrive_id(letter))
            chosen.valid.append(letter)
    return chosen._replace(sent_before=sent_before)


def redrive_id(letter: Letter) -> RedriveId:
    """The identity under which a redrive is recorded."""
    return letter.about.transaction_id, letter.about.origin


def redrive_key(marker: Redrive) -> bytes:
    """The key of a record on `redrives`; compaction keeps one per transaction id and place."""
    return f"{marker.transaction_id} {marker.consumed_from}".encode()


def outgoing_headers(letter: Letter) -> list[tuple[str, bytes]]:
    """The original headers of the payload, the transaction id, and the dead letter's place. Without the reason.

    A null value, which kafka-python cannot write, becomes an empty one.
    """
    kept = [(name, value or b"") for name, value in letter.headers if not name.startswith(_DROPPED_HEADERS)]
    return [
        *kept,
        (TRANSACTION_ID_HEADER, letter.about.transaction_id.encode()),
        (REDRIVEN_FROM, letter.place.encode()),
    ]
