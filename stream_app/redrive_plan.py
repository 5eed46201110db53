"""Which dead letters go back, and with which headers. Pure.

Which has been sent back already? A transaction keeps its id however often it fails, and a payload sent back names the
dead letter it came from. A dead letter may go back when the one it came from is the one that was last sent back, or
when none was. So a dead letter written twice goes back once, and one whose payload was sent back too early and failed
again may be tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.cleaning import clean_payloads
from schemas.dataset import Dataset
from schemas.events import Rejection
from schemas.transaction_ids import MAX_ID_LENGTH, TOPIC_ID_HEADER, TRANSACTION_ID_HEADER, place
from stream_app import dead_letters
from stream_app.dead_letters import DeadLetter
from stream_app.originals import Cut, cut_of
from stream_app.reading import Record

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


class Letter(NamedTuple):
    """A dead letter, and where it stands."""

    place: str  # for good, with the incarnation of its topic
    about: DeadLetter
    redriven_from: str | None  # as its header says; anybody may write that
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    cut: Cut | None = None  # what it lacks of the original


class Plan(NamedTuple):
    """What is to become of some dead letters: each is in exactly one of these, or went back before."""

    back: list[Letter]
    broken: list[tuple[Letter, Rejection]]
    went_before: int


def read_letter(record: Record, topic_id: str) -> Letter | None:
    """A record of the dead letter topic; None when its headers do not say where it came from, or give no usable id.

    topic_id: incarnation of the dead letter topic.
    """
    about = dead_letters.read(record.headers)
    if about is None or len(about.transaction_id) > MAX_ID_LENGTH:  # `redrives` could not remember it
        return None
    source = dict(record.headers).get(REDRIVEN_FROM)
    return Letter(
        place(record.topic, record.partition, record.offset, topic_id),
        about,
        source.decode("utf-8", "replace") if source else None,
        record.key,
        record.value,
        record.headers,
        cut_of(record.headers),
    )


def plan(
    letters: Iterable[Letter],
    went_back: dict[str, str],
    dataset: Dataset,
    *,
    max_payload_bytes: int,
    replacements: Mapping[str, bytes],
) -> Plan:
    """Choose the dead letters that can go back, and note in `went_back` that they do.

    letters: those of a transaction in the order they were written.
    went_back: transaction id -> the dead letter that was sent back last. Updated.
    replacements: transaction id -> the payload to send instead.
    """
    letters = [letter._replace(value=replacements.get(letter.about.transaction_id, letter.value)) for letter in letters]
    cleaned = clean_payloads(dataset, [letter.value for letter in letters], max_payload_bytes=max_payload_bytes)
    rejections = {rejection.row: rejection for rejection in cleaned.rejections}
    chosen = Plan([], [], 0)
    before = 0
    for row, letter in enumerate(letters):
        transaction = letter.about.transaction_id
        if not may_go_back(letter, went_back):
            before += 1
        elif rejection := rejections.get(row):
            chosen.broken.append((letter, rejection))
        else:
            went_back[transaction] = letter.place
            chosen.back.append(letter)
    return chosen._replace(went_before=before)


def may_go_back(letter: Letter, went_back: Mapping[str, str]) -> bool:
    """Whether a dead letter was not sent back yet.

    Its header counts only where it names the dead letter that `redrives` remembers: a producer may write any other,
    which then is none.
    """
    last = went_back.get(letter.about.transaction_id)
    return last is None or letter.redriven_from == last


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
