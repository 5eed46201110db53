"""Finds where a group's decisions and dead letters end, from the output topics, when its committed offset is lost.

Headers of decisions and dead letters name the consumer group, the input topic's id and the input offset.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.transaction_ids import TOPIC_ID_HEADER
from stream_app.decisions import dead_letters
from stream_app.decisions.decision_headers import GROUP_HEADER, OFFSET_HEADER
from stream_app.kafka.kafka_clients import reader, require_broker
from stream_app.offsets.offset_validation import OutputEnd

LOOKBACK_BATCHES = 5  # of the maximum size, from the end of an output partition
MAX_OFFSET_DIGITS = 19


class OutputOffset(NamedTuple):
    """The input record that one output record belongs to."""

    written_at: int  # ms
    topic_id: str
    offset: int


def find_output_end(
    outputs: Iterable[OutputOffset], *, begin: int, exactly_once: bool, batch_max_records: int
) -> OutputEnd | None:
    """The next offset to decide, for the topic id of the last output record; None without output records.

    begin: first offset of the input's log. With at-least-once, a crash may have left a batch partly written; the next
    offset is then the first one of the last batch without output. A gap in the input looks the same, so that some
    records may be decided again.

    >>> outputs = [OutputOffset(1, "a", offset) for offset in (3, 4, 6, 7)]
    >>> find_output_end(outputs, begin=3, exactly_once=True, batch_max_records=100).offset
    8
    >>> find_output_end(outputs, begin=3, exactly_once=False, batch_max_records=100).offset
    5
    >>> find_output_end(outputs, begin=0, exactly_once=False, batch_max_records=100).offset
    0
    """
    known = list(outputs)
    if not known:
        return None
    topic_id = max(known, key=lambda output: output.written_at).topic_id
    offsets = {output.offset for output in known if output.topic_id == topic_id}
    last = max(offsets)
    if exactly_once:
        return OutputEnd(last + 1, topic_id)
    first = max(begin, last - 2 * batch_max_records)  # a batch ends with the fetch that fills it
    return OutputEnd(next((o for o in range(first, last + 1) if o not in offsets), last + 1), topic_id)


def read_output_offsets(
    settings: Settings, partitions: Sequence[int], lookback: int | None = None
) -> dict[int, list[OutputOffset]]:
    """The last output records of this group, by input partition. Raises BrokerError or KafkaError.

    lookback: number of offsets from the end of an output partition; None: `LOOKBACK_BATCHES`.
    """
    topics = settings.decisions_topic, settings.dead_letters_topic
    lookback = LOOKBACK_BATCHES * settings.batch_max_records if lookback is None else lookback
    found: dict[int, list[OutputOffset]] = {p: [] for p in partitions}
    with require_broker(settings.bootstrap):
        consumer = reader(
            settings.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50, bootstrap_timeout_ms=15_000
        )
    try:
        wanted = [TopicPartition(topic, p) for topic in topics for p in partitions]
        existing = [tp for tp in wanted if tp.partition in (consumer.partitions_for_topic(tp.topic) or ())]
        consumer.assign(existing)
        begins, ends = consumer.beginning_offsets(existing), consumer.end_offsets(existing)
        for tp in existing:
            consumer.seek(tp, max(begins[tp], ends[tp] - lookback))
        while any(consumer.position(tp) < ends[tp] for tp in existing):
            for tp, records in consumer.poll(timeout_ms=500).items():
                outputs = (_output_offset(record, settings) for record in records)
                found[tp.partition] += [output for output in outputs if output is not None]
        return found
    finally:
        consumer.close()


def _output_offset(record: Any, settings: Settings) -> OutputOffset | None:
    if record.topic == settings.dead_letters_topic:
        letter = dead_letters.read(record.headers)
        if letter is None or letter.group != settings.consumer_group or letter.topic != settings.transactions_topic:
            return None
        return OutputOffset(record.timestamp, letter.topic_id, letter.offset)
    headers = dict(record.headers)
    offset = headers.get(OFFSET_HEADER) or b""
    if (
        headers.get(GROUP_HEADER) != settings.consumer_group.encode()
        or not offset.isdigit()
        or len(offset) > MAX_OFFSET_DIGITS
    ):
        return None
    return OutputOffset(record.timestamp, (headers.get(TOPIC_ID_HEADER) or b"").decode(errors="replace"), int(offset))
