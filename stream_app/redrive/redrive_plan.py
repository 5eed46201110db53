"""Selects the dead letters to send back, and their headers. Pure.

A transaction id consumed at one place of `transactions` is sent back once. A dead letter written twice has the same
place and is sent back once. A payload that was sent back and failed again was consumed at another place and may be sent
again; so may another payload with the same id.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from schemas.dataset.declaration import Dataset
from schemas.records import Redrive, Rejection
from schemas.transaction_ids import MAX_ID_LENGTH, TOPIC_ID_HEADER, TRANSACTION_ID_HEADER, place
from scoring.input.cleaning import clean_payloads
from stream_app.decisions import dead_letters
from stream_app.decisions.dead_letters import DeadLetter
from stream_app.kafka.topic_reader import ConsumedRecord
from stream_app.redrive.originals import Cut, cut_of

REDRIVEN_FROM = "tamiz-redriven-from"  # the place of the dead letter
# Headers of a dead letter that are not sent back: the reason, what was truncated, and those that are set again.
_DROPPED_HEADERS = (
    dead_letters.PREFIX,
    dead_letters.ERROR_PREFIX,
    dead_letters.CUT_PREFIX,
    TRANSACTION_ID_HEADER,
    TOPIC_ID_HEADER,
    REDRIVEN_FROM,
)


Consumed = tuple[str, str]  # transaction id, and the place it was consumed from


class Letter(NamedTuple):
    """A dead letter and its place on the topic."""

    place: str  # with the topic id, so that it stays unique if the topic is recreated
    about: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    cut: Cut | None = None  # truncated parts


class RedrivePlan(NamedTuple):
    """Dead letters by what to do with them: each is in exactly one list, or was sent back before."""

    back: list[Letter]
    broken: list[tuple[Letter, Rejection]]
    went_before: int


def read_letter(record: ConsumedRecord, topic_id: str) -> Letter | None:
    """Decode a record of the dead-letter topic; None if its headers name no origin or no usable transaction id.

    topic_id: Kafka's id of the dead-letter topic.
    """
    about = dead_letters.read(record.headers)
    if (
        about is None or max(len(about.transaction_id), len(about.origin)) > MAX_ID_LENGTH
    ):  # `redrives` could not remember it
        return None
    return Letter(
        place(record.topic, record.partition, record.offset, topic_id),
        about,
        record.key,
        record.value,
        record.headers,
        cut_of(record.headers),
    )


def plan(
    letters: Iterable[Letter],
    went_back: set[Consumed],
    dataset: Dataset,
    *,
    max_payload_bytes: int,
    replacements: Mapping[str, bytes],
) -> RedrivePlan:
    """Select the dead letters to send back and add them to `went_back`.

    went_back: what was sent back before; updated.
    replacements: transaction id -> payload to send instead.
    """
    letters = [letter._replace(value=replacements.get(letter.about.transaction_id, letter.value)) for letter in letters]
    cleaned = clean_payloads(dataset, [letter.value for letter in letters], max_payload_bytes=max_payload_bytes)
    rejections = {rejection.row: rejection for rejection in cleaned.rejections}
    chosen = RedrivePlan([], [], 0)
    before = 0
    for row, letter in enumerate(letters):
        if not may_go_back(letter, went_back):
            before += 1
        elif rejection := rejections.get(row):
            chosen.broken.append((letter, rejection))
        else:
            went_back.add(consumed(letter))
            chosen.back.append(letter)
    return chosen._replace(went_before=before)


def consumed(letter: Letter) -> Consumed:
    """The identity under which a redrive is recorded."""
    return letter.about.transaction_id, letter.about.origin


def redrive_key(marker: Redrive) -> bytes:
    """The key of a record on `redrives`; compaction keeps one per transaction id and place."""
    return f"{marker.transaction_id} {marker.consumed_from}".encode()


def may_go_back(letter: Letter, went_back: Set[Consumed]) -> bool:
    """Whether a dead letter was not sent back yet."""
    return consumed(letter) not in went_back


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
