"""Which dead letters go back, and with which headers. Pure.

Which has been sent back already? What was consumed at one place of the transactions under one id goes back once. A dead
letter written twice has the same place, and goes back once; a payload that was sent back too early and failed again was
consumed at another place, and may be tried again; so may another payload that a producer gave the same id.
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
# Headers of a dead letter that do not go back: why it failed, what was cut, and what is written anew.
_LEFT_BEHIND = (
    dead_letters.PREFIX,
    dead_letters.ERROR_PREFIX,
    dead_letters.CUT_PREFIX,
    TRANSACTION_ID_HEADER,
    TOPIC_ID_HEADER,
    REDRIVEN_FROM,
)


Consumed = tuple[str, str]  # transaction id, and the place it was consumed from


class Letter(NamedTuple):
    """A dead letter, and where it stands."""

    place: str  # for good, with the incarnation of its topic
    about: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    cut: Cut | None = None  # what it lacks of the original


class RedrivePlan(NamedTuple):
    """What is to become of some dead letters: each is in exactly one of these, or went back before."""

    back: list[Letter]
    broken: list[tuple[Letter, Rejection]]
    went_before: int


def read_letter(record: ConsumedRecord, topic_id: str) -> Letter | None:
    """A record of the dead letter topic; None when its headers do not say where it came from, or give no usable id.

    topic_id: incarnation of the dead letter topic.
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
    """Choose the dead letters that can go back, and note in `went_back` that they do.

    went_back: what went back before. Updated.
    replacements: transaction id -> the payload to send instead.
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
    """What a dead letter is remembered by."""
    return letter.about.transaction_id, letter.about.origin


def redrive_key(marker: Redrive) -> bytes:
    """The key of a record of `redrives`: compaction keeps one for each place of each transaction id."""
    return f"{marker.transaction_id} {marker.consumed_from}".encode()


def may_go_back(letter: Letter, went_back: Set[Consumed]) -> bool:
    """Whether what a dead letter is about was not sent back yet."""
    return consumed(letter) not in went_back


def outgoing_headers(letter: Letter) -> list[tuple[str, bytes]]:
    """Those the payload first came with, and whose transaction it is; the reason it failed is left behind.

    A null value, which our client cannot write, becomes an empty one.
    """
    kept = [(name, value or b"") for name, value in letter.headers if not name.startswith(_LEFT_BEHIND)]
    return [
        *kept,
        (TRANSACTION_ID_HEADER, letter.about.transaction_id.encode()),
        (REDRIVEN_FROM, letter.place.encode()),
    ]
