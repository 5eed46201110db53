import asyncio
import hashlib
import json
import uuid
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from typer.testing import CliRunner

from schemas.configuration.child_environment import as_environment
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import BrokerError
from schemas.records import Redrive, Rejection
from schemas.topics import topic_table
from schemas.transaction_ids import TRANSACTION_ID_HEADER, transaction_id
from stream_app.decisions import dead_letters
from stream_app.kafka.topic_admin import admin, create_topics, topic_ids
from stream_app.redrive import redrive as redriving
from stream_app.redrive.redrive import redrive
from stream_app.redrive.redrive_plan import REDRIVEN_FROM, Letter, plan
from tamiz.main import app
from tests.helpers.services.worker_process import committed_records, recreate_topic

VALID = b'{"ID_USER":"7","monto":"1,5","fecha":"5/01/2020","hora":"13"}'
INVALID = b'{"ID_USER":"7","monto":"mil","fecha":"5/01/2020","hora":"13"}'
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
REJECTION = Rejection(row=0, code="bad-number", field="monto", value="mil", expected="a number")


@pytest.fixture(scope="module")
def card() -> Dataset:
    return load_dataset("card_transactions")


# ---------------------------------------------------------------------------------------------- selection of letters


def letter(offset: int, *, origin: int = 1, transaction: str = "t-0-1", value=VALID):
    about = dead_letters.DeadLetter("t", 0, origin, "g", transaction, "bad-number", "monto", "mil", "a number")
    return Letter(f"dead-0-{offset}", about, b"7", value, [])


def places(card, letters, redriven, replacements=None) -> list[str]:
    chosen = plan(letters, redriven, card, max_payload_bytes=65_536, replacements=replacements or {})
    return [sent.place for sent in chosen.valid]


def test_a_valid_dead_letter_is_sent_back_and_recorded(card):
    redriven: set[tuple[str, str]] = set()
    assert places(card, [letter(0)], redriven) == ["dead-0-0"]
    assert places(card, [letter(0)], redriven) == []


def test_an_invalid_dead_letter_is_not_sent(card):
    chosen = plan([letter(0, value=INVALID)], set(), card, max_payload_bytes=65_536, replacements={})
    assert chosen.valid == []
    assert [rejection.field for _, rejection in chosen.invalid] == ["monto"]


def test_a_user_can_replace_a_payload(card):
    assert places(card, [letter(0, value=INVALID)], set(), {"t-0-1": VALID}) == ["dead-0-0"]


#  transactions-0   1            8 (sent back from dead-0-0; fails again)
#  dead-0             0  1         2  3
#                     D  D again   E  E again
def test_a_dead_letter_written_twice_is_sent_back_once(card):
    assert places(card, [letter(0), letter(1)], set()) == ["dead-0-0"]


def test_a_letter_that_failed_again_is_sent_once_more(card):
    again = [letter(0), letter(1), *(letter(n, origin=8) for n in (2, 3))]
    redriven = {("t-0-1", "t-0-1")}
    assert places(card, again, redriven) == ["dead-0-2"]
    assert places(card, again, redriven) == []


def test_two_payloads_with_one_id_are_both_sent_back_once(card):
    redriven: set[tuple[str, str]] = set()
    both = [letter(n, origin=n, transaction="pay-17") for n in (4, 5, 5)]
    assert places(card, both, redriven) == ["dead-0-4", "dead-0-5"]
    assert places(card, both, redriven) == []


# --------------------------------------------------------------------------------------------- on the real broker


@pytest.fixture
def settings(kafka) -> Settings:
    own = uuid.uuid4().hex[:8]
    here = load(
        {
            "TAMIZ_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TAMIZ_TOPIC_PREFIX": f"{own}-",
            "TAMIZ_PARTITIONS": "2",
        }
    )
    roles = {"transactions", "dead-letters", "redrives"}
    create_topics(here.bootstrap, [t for t in topic_table(here) if t.role in roles], 1)
    return here


class DeadLetterOrigin:
    """A record that the worker consumed, as named by its dead letters."""

    def __init__(self, settings: Settings, offset: int) -> None:
        self.topic, self.partition, self.offset = settings.transactions_topic, 1, offset
        self.headers = [TRACE]


def write_dead_letters(settings: Settings, *letters: tuple[int, bytes | None]) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    try:
        for offset, value in letters:
            origin = DeadLetterOrigin(settings, offset)
            own = dead_letters.headers(REJECTION, origin, group="tamiz", transaction_id=f"{origin.topic}-1-{offset}")
            headers = dead_letters.truncate(b"7", value, own, origin.headers, 1_000_000).headers
            producer.send(settings.dead_letters_topic, key=b"7", value=value, headers=headers, partition=1).get(30)
    finally:
        producer.close()


def all_records(settings: Settings, topic: str) -> list[Any]:
    return list(committed_records(settings.bootstrap, topic))


def written_records(settings: Settings, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
        return sum(consumer.end_offsets(partitions).values())
    finally:
        consumer.close()


@pytest.mark.kafka
def test_a_second_redrive_sends_nothing_again(settings, card):
    write_dead_letters(settings, (0, VALID), (1, INVALID), (2, None), (0, VALID))
    first, second = redrive(settings, card), redrive(settings, card)
    assert (first.sent_back, first.sent_before, sum(first.invalid.values())) == (1, 1, 2)
    assert (second.sent_back, second.sent_before, sum(second.invalid.values())) == (0, 2, 2)
    (back,) = all_records(settings, settings.transactions_topic)
    assert (back.key, back.value, back.partition) == (b"7", VALID, 1)
    topic_id = topic_ids(settings.bootstrap, [settings.dead_letters_topic])[settings.dead_letters_topic]
    dead_letter = f"{settings.dead_letters_topic}-1-0@{topic_id[:8]}"
    assert dict(back.headers) == {
        TRACE[0]: TRACE[1],
        TRANSACTION_ID_HEADER: f"{settings.transactions_topic}-1-0".encode(),
        REDRIVEN_FROM: dead_letter.encode(),
    }
    (marker,) = all_records(settings, settings.redrives_topic)
    assert msgspec.json.decode(marker.value, type=Redrive).dead_letter == dead_letter


@pytest.mark.kafka
def test_after_a_topic_is_recreated_the_same_offset_is_sent_back_again(settings, card):
    def fail_at_the_first_offset() -> None:
        topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
        record = DeadLetterOrigin(settings, 0)
        headers = dead_letters.headers(
            REJECTION,
            record,
            group="tamiz",
            transaction_id=transaction_id(record, topic_id),
            topic_id=topic_id,
        )
        producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
        producer.send(settings.dead_letters_topic, key=b"7", value=VALID, headers=headers, partition=1).get(30)
        producer.close()

    fail_at_the_first_offset()
    assert redrive(settings, card).sent_back == 1
    recreate_topic(settings, settings.transactions_topic)
    fail_at_the_first_offset()
    assert redrive(settings, card).sent_back == 1
    assert len(all_records(settings, settings.transactions_topic)) == 1


@pytest.mark.kafka
def test_a_dry_run_sends_nothing(settings, card):
    write_dead_letters(settings, (0, VALID))
    assert redrive(settings, card, dry_run=True).sent_back == 1
    assert all_records(settings, settings.transactions_topic) == []
    assert redrive(settings, card).sent_back == 1


@pytest.mark.kafka
def test_a_limit_leaves_the_rest_for_the_next_run(settings, card):
    write_dead_letters(settings, *((n, VALID) for n in range(5)))
    assert [redrive(settings, card, limit=3).sent_back for _ in range(3)] == [3, 2, 0]
    assert len(all_records(settings, settings.transactions_topic)) == 5


@pytest.mark.kafka
def test_a_replaced_payload_is_sent_back_and_an_unknown_transaction_is_named(settings, card):
    write_dead_letters(settings, (0, INVALID))
    replacements = {f"{settings.transactions_topic}-1-0": VALID, "nobody": VALID}
    assert redrive(settings, card, replacements=replacements).not_found == ["nobody"]
    assert [r.value for r in all_records(settings, settings.transactions_topic)] == [VALID]


@pytest.mark.kafka
def test_a_record_that_is_no_dead_letter_is_counted_and_skipped(settings, card):
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    producer.send(settings.dead_letters_topic, value=VALID).get(30)
    producer.close()
    result = redrive(settings, card)
    assert (result.unreadable, result.sent_back) == (1, 0)


class KilledError(Exception):
    """Simulates the end of the process."""


@pytest.mark.kafka
def test_after_a_crash_the_next_redrive_sends_exactly_once(settings, card, monkeypatch):
    write_dead_letters(settings, (0, VALID))
    real = redriving.send_back

    def killed_before_the_commit(producer, letters, settings):
        def die():
            raise KilledError

        # A killed process neither commits nor aborts; its records are on the broker.
        monkeypatch.setattr(producer, "commit_transaction", die)
        return real(producer, letters, settings)

    with monkeypatch.context() as patched:
        patched.setattr(redriving, "send_back", killed_before_the_commit)
        with pytest.raises(KilledError):
            redrive(settings, card)
    assert written_records(settings, settings.transactions_topic) == 1
    assert redrive(settings, card).sent_back == 1
    assert redrive(settings, card).sent_back == 0
    assert [r.value for r in all_records(settings, settings.transactions_topic)] == [VALID]
    assert len(all_records(settings, settings.redrives_topic)) == 1


@pytest.mark.kafka
def test_a_second_redrive_fences_the_first_which_ends_with_one_line(settings, card, monkeypatch):
    write_dead_letters(settings, (0, VALID), (1, VALID))
    real = redriving.send_back

    def overtaken(producer, letters, settings):
        monkeypatch.setattr(redriving, "send_back", real)
        assert redrive(settings, card).sent_back == 2
        return real(producer, letters, settings)

    monkeypatch.setattr(redriving, "send_back", overtaken)
    with pytest.raises(BrokerError, match="another `tamiz redrive` has started"):
        redrive(settings, card)
    assert len(all_records(settings, settings.transactions_topic)) == 2


@pytest.mark.kafka
def test_a_missing_topic_is_named(settings, card):
    elsewhere = msgspec.structs.replace(settings, topic_prefix="no-such-")
    with pytest.raises(BrokerError, match="topic no-such-redrives does not exist"):
        redrive(elsewhere, card)
    assert issubclass(BrokerError, Exception)
    assert not issubclass(BrokerError, KafkaError)


# ------------------------------------------------------------------------------- invalid records on the topics


def sent_raw(settings: Settings, topic: str, records: list[tuple[bytes | None, bytes | None, list[Any]]]) -> None:
    """Records as other clients write them, in this order: aiokafka writes null header values, kafka-python does not."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, max_request_size=4_000_000)
        await producer.start()
        try:
            for key, value, headers in records:
                await producer.send_and_wait(topic, value, key=key, headers=headers, partition=0)
        finally:
            await producer.stop()

    asyncio.run(send())


def headers_of(settings: Settings, offset: int, name: str, *more: tuple[str, bytes | None]) -> list[Any]:
    origin = DeadLetterOrigin(settings, offset)
    return [*dead_letters.headers(REJECTION, origin, group="tamiz", transaction_id=name), *more]


def truncation_headers(value: bytes) -> list[tuple[str, bytes]]:
    return [
        (dead_letters.TRUNCATED_VALUE_BYTES_HEADER, b"%d" % len(value)),
        (dead_letters.TRUNCATED_VALUE_SHA256_HEADER, hashlib.sha256(value).hexdigest().encode()),
    ]


@pytest.mark.kafka
def test_invalid_letters_and_redrives_do_not_stop_the_others(settings, monkeypatch):
    settings = msgspec.structs.replace(settings, max_payload_bytes=3_000_000)
    large = b'{"more":"%s",%s' % (b"x" * 1_500_000, VALID[1:])
    junk = [
        b"junk",
        b'{"x":' + b"[" * 20_000,
        b'{"transaction_id":"\xff"}',
        msgspec.json.encode(Redrive(transaction_id="forged", dead_letter="x", consumed_from="x", redriven_at_ms=2**70)),
    ]
    sent_raw(settings, settings.redrives_topic, [(b"forged", value, []) for value in junk])
    sent_raw(settings, settings.dead_letters_topic, [
        (b"1", VALID, headers_of(settings, 0, "null-header", ("from-java", None))),
        (b"2", VALID, headers_of(settings, 1, "not-utf8", (REDRIVEN_FROM, b"\xff"))),
        (b"3", VALID, headers_of(settings, 2, "suppressed", (REDRIVEN_FROM, b"x"))),
        (b"4", VALID, headers_of(settings, 3, "forged")),
        (b"5", VALID, [("tamiz-error-code", None), (dead_letters.PREFIX + "topic", None)]),
        (b"6", VALID, [h for h in headers_of(settings, 4, "") if h[0] != TRANSACTION_ID_HEADER]
         + [(TRANSACTION_ID_HEADER, b"i" * 2_000)]),
        (b"6", large, headers_of(settings, 4, "refused")),
        (None, VALID, headers_of(settings, 5, "no-key")),
        (b"7", None, headers_of(settings, 6, "no-value")),
        (b"8", b'{"ID_USER":"[/nope]\x1b[2J","monto":"[/nope]","fecha":"5/01/2020","hora":"13"}',
         headers_of(settings, 7, "markup[/nope]")),
        (b"9", VALID, [(dead_letters.PREFIX + "topic", settings.transactions_topic.encode()),
                        (dead_letters.PREFIX + "partition", b"4000000"), (dead_letters.PREFIX + "offset", b"-9" * 3),
                        (dead_letters.PREFIX + "offset", b"1")]),
        (b"10", VALID, [(dead_letters.PREFIX + "topic", settings.transactions_topic.encode()),
                         (dead_letters.PREFIX + "partition", b"4000000"), (dead_letters.PREFIX + "offset", b"9")]),
    ])  # fmt: skip
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    first = CliRunner().invoke(app, ["redrive", "--json", "--replace", f"nobody[/nope]={__file__}"])
    assert first.exit_code == 0, first.output
    found = json.loads(first.output)
    assert found["sent_back"] == 6
    assert sum(found["invalid"].values()) == 2
    assert found["refused"] == {"MessageSizeTooLargeError": 1}
    assert found["unreadable"] == 3
    assert found["unusable_redrives"] == 4
    names = {dict(r.headers)[TRANSACTION_ID_HEADER] for r in all_records(settings, settings.transactions_topic)}
    there = settings.transactions_topic.encode() + b"-4000000-9"
    assert names == {b"null-header", b"not-utf8", b"suppressed", b"forged", b"no-key", there}

    again = CliRunner().invoke(app, ["redrive", "--replace", f"nobody[/nope]={__file__}"])
    assert again.exit_code == 0, again.output
    assert "0 sent back" in again.output
    assert "6 already sent before" in again.output
    assert "nobody[/nope]" in again.output
    assert "\x1b" not in again.output


@pytest.mark.kafka
def test_a_truncated_letter_is_sent_as_its_original_or_counted_as_missing(settings, card):
    settings = msgspec.structs.replace(settings, max_payload_bytes=3_000_000)
    sent_raw(settings, settings.transactions_topic, [(b"7", VALID, [TRACE, ("kept", b"1")])])

    def letter(name, *more, partition=b"0", offset=0):
        headers = [h for h in headers_of(settings, offset, name) if h[0] != TRACE[0]]
        place = [(dead_letters.PREFIX + "partition", partition)]
        return place + [h for h in headers if h[0] != place[0][0]] + list(more)

    cut = truncation_headers(VALID)
    sent_raw(settings, settings.dead_letters_topic, [
        (b"7", VALID[:5], letter("cut", *cut, (dead_letters.TRUNCATED_HEADERS_HEADER, b"2"))),
        (b"7", VALID[:5], letter("another", *truncation_headers(VALID + b" "))),
        (b"7", VALID[:5], letter("beyond the end", *cut, offset=2**62)),
        (b"7", VALID[:5], letter("no partition", *cut, partition=b"77")),
        (b"7", VALID, letter("headers only", (dead_letters.TRUNCATED_HEADERS_HEADER, b"9"), offset=9)),
        (b"7", VALID[:5], letter("a producer's own", (dead_letters.TRUNCATED_VALUE_SHA256_HEADER, b"\xff"))),
    ])  # fmt: skip
    result = redrive(settings, card)
    assert (result.sent_back, result.originals_missing, result.headers_missing) == (2, 4, 1)
    back = all_records(settings, settings.transactions_topic)[1:]
    assert [r.value for r in back] == [VALID, VALID]
    assert {name for name, _ in back[0].headers} == {TRACE[0], "kept", TRANSACTION_ID_HEADER, REDRIVEN_FROM}
    assert redrive(settings, card).sent_back == 0


@pytest.mark.kafka
def test_a_letter_without_a_key_is_not_sent_to_a_compacted_topic(settings, card):
    with admin(settings.bootstrap) as client:
        compacted = ConfigResource(ConfigResourceType.TOPIC, settings.transactions_topic, {"cleanup.policy": "compact"})
        client.alter_configs([compacted])
    sent_raw(settings, settings.dead_letters_topic, [
        (b"1", VALID, headers_of(settings, 0, "before")),
        (None, VALID, headers_of(settings, 1, "no-key")),
        (b"3", VALID, headers_of(settings, 2, "behind")),
    ])  # fmt: skip
    assert redrive(settings, card, dry_run=True).sent_back == 2
    first = redrive(settings, card)
    assert (first.sent_back, first.refused) == (2, {"NoKey": 1})
    assert "is compacted" in first.examples["NoKey"]
    assert redrive(settings, card).sent_before == 2
    assert [r.key for r in all_records(settings, settings.transactions_topic)] == [b"1", b"3"]
