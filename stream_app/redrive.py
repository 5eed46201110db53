"""Send dead letters back once they are mended, never twice.

A dead letter goes back when its payload, as it is or as a person replaced it, can now be cleaned. What went back is
remembered in the compacted `redrives` topic; message and memory are written in one Kafka transaction, so that neither
is ever there without the other (for whoever reads committed records only).

Which dead letter has been sent back already? A transaction keeps its id however often it fails, and a payload sent back
names the dead letter it came from. A dead letter may go back when the one it came from is the one that was last sent
back; at first both are none. So a dead letter written twice goes back once, and one whose payload was sent back too
early and failed again may be tried again.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError

from schemas.cleaning import clean_payloads
from schemas.dataset import Dataset
from schemas.errors import BrokerError
from schemas.events import Redrive, Rejection
from schemas.settings import Settings
from schemas.transaction_ids import TRANSACTION_ID_HEADER, place
from stream_app import dead_letters
from stream_app.clients import arguments
from stream_app.dead_letters import DeadLetter
from stream_app.reading import Record, read_to_end
from stream_app.topic_admin import topic_ids

REDRIVEN_FROM = "tamiz-redriven-from"  # the place of the dead letter


class Letter(NamedTuple):
    """A dead letter, and where it stands."""

    place: str  # for good, with the incarnation of its topic
    about: DeadLetter
    redriven_from: str | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Plan(NamedTuple):
    """What is to become of some dead letters: each is in exactly one of these, or went back before."""

    back: list[Letter]
    broken: list[tuple[Letter, Rejection]]
    went_before: int


class Result(NamedTuple):
    """What became of all of them."""

    sent_back: int
    went_before: int
    broken: dict[str, int]  # by code
    examples: dict[str, str]  # by code: the first one, for people
    unreadable: int  # in the topic, but no dead letter by its headers
    not_found: list[str]  # transactions with a replacement, but without a dead letter to replace


def read_letter(record: Record, topic_id: str) -> Letter | None:
    """A record of the dead letter topic; None when its headers do not say where it came from.

    topic_id: incarnation of the dead letter topic.
    """
    about = dead_letters.read(record.headers)
    if about is None:
        return None
    source = dict(record.headers).get(REDRIVEN_FROM)
    where = place(record.topic, record.partition, record.offset, topic_id)
    return Letter(where, about, source.decode() if source else None, record.key, record.value, record.headers)


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
        if went_back.get(transaction) != letter.redriven_from:
            before += 1
        elif rejection := rejections.get(row):
            chosen.broken.append((letter, rejection))
        else:
            went_back[transaction] = letter.place
            chosen.back.append(letter)
    return chosen._replace(went_before=before)


def outgoing_headers(letter: Letter) -> list[tuple[str, bytes]]:
    """Those the payload first came with, and whose transaction it is; the reason it failed is left behind."""
    kept = [h for h in dead_letters.passed_on(letter.headers) if h[0] != REDRIVEN_FROM]
    return [
        *kept,
        (TRANSACTION_ID_HEADER, letter.about.transaction_id.encode()),
        (REDRIVEN_FROM, letter.place.encode()),
    ]


def redrive(
    settings: Settings,
    dataset: Dataset,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    replacements: Mapping[str, bytes] | None = None,
) -> Result:
    """Send back what is mended among the dead letters that are there now.

    Each transaction goes to the partition it came from, under its key.
    Raises BrokerError when nobody answers, a topic is missing, or another redrive has taken over meanwhile.
    """
    replacements = replacements or {}
    back, before, unreadable = 0, 0, 0
    broken: dict[str, int] = {}
    examples: dict[str, str] = {}
    seen: set[str] = set()
    with contextlib.nullcontext() if dry_run else _sole_producer(settings) as producer:
        # Read after the producer has fenced every other one off: nobody can add to them from here on.
        went_back = _went_back(settings)
        topic_id = topic_ids(settings.bootstrap, [settings.dead_letters_topic]).get(settings.dead_letters_topic, "")
        for records in read_to_end(settings.bootstrap, settings.dead_letters_topic):
            read = [read_letter(record, topic_id) for record in records]
            letters = [r for r in read if r is not None and not r.about.code.startswith(dead_letters.UNTOLD_PREFIX)]
            unreadable += read.count(None)
            seen.update(letter.about.transaction_id for letter in letters)
            chosen = plan(
                letters,
                went_back,
                dataset,
                max_payload_bytes=settings.max_payload_bytes,
                replacements=replacements,
            )
            before += chosen.went_before
            for letter, rejection in chosen.broken:
                broken[rejection.code] = broken.get(rejection.code, 0) + 1
                field = rejection.field or "payload"
                examples.setdefault(
                    rejection.code, f"{letter.place}: {field} is {rejection.value}, wanted {rejection.wanted}"
                )
            sending = chosen.back if limit is None else chosen.back[: limit - back]
            if producer is not None and sending:
                _send_back(producer, sending, settings)
            back += len(sending)
            if back == limit:
                break
    missed = set(replacements) - seen if back != limit else set()  # a limit ends the reading early
    return Result(back, before, broken, examples, unreadable, sorted(missed))


def _went_back(settings: Settings) -> dict[str, str]:
    decode = msgspec.json.Decoder(Redrive).decode
    markers = (
        decode(record.value)
        for records in read_to_end(settings.bootstrap, settings.redrives_topic)
        for record in records
        if record.value
    )
    return {marker.transaction_id: marker.dead_letter for marker in markers}


@contextlib.contextmanager
def _sole_producer(settings: Settings) -> Iterator[Any]:
    producer = None
    try:
        producer = KafkaProducer(
            **arguments(settings.bootstrap),
            transactional_id=f"tamiz-redrive-{settings.dead_letters_topic}",
            allow_auto_create_topics=False,
            max_block_ms=30_000,
            bootstrap_timeout_ms=15_000,
        )
        producer.init_transactions()
        yield producer
    except KafkaError as error:
        if _is_fenced(error):
            raise BrokerError(
                "another `tamiz redrive` has started meanwhile and goes on from here; this one sent nothing by halves"
            ) from None
        raise BrokerError(f"dead letters could not be sent back by {settings.bootstrap}: {error}") from None
    finally:
        if producer is not None:
            producer.close(timeout=30)


def _is_fenced(error: BaseException) -> bool:
    # Once fenced, kafka-python fails with a plain KafkaError whose text ends in the first one's.
    return isinstance(error, ProducerFencedError | InvalidProducerEpochError) or "ProducerFencedError" in str(error)


def _send_back(producer: Any, letters: Sequence[Letter], settings: Settings) -> None:
    encode = msgspec.json.Encoder().encode
    now_ms = int(time.time() * 1000)
    partitions = producer.partitions_for(settings.transactions_topic)
    producer.begin_transaction()
    try:
        futures = []
        for letter in letters:
            about = letter.about
            home = about.topic == settings.transactions_topic and about.partition in partitions
            futures.append(
                producer.send(
                    settings.transactions_topic,
                    key=letter.key,
                    value=letter.value,
                    headers=outgoing_headers(letter),
                    partition=about.partition if home else None,
                )
            )
            marker = Redrive(transaction_id=about.transaction_id, dead_letter=letter.place, redriven_at_ms=now_ms)
            futures.append(
                producer.send(settings.redrives_topic, key=about.transaction_id.encode(), value=encode(marker))
            )
        producer.flush()
        for future in futures:
            future.get(30)
    except BaseException as error:
        # Also on Ctrl-C: readers of committed records wait for an open transaction. Whoever fences us aborts for us.
        if not _is_fenced(error):
            producer.abort_transaction()
        raise
    producer.commit_transaction()
