"""Hostile dead letters: valid ones with changed headers and values. Pure."""

import random
from collections.abc import Iterator

import msgspec

from chaos.fuzz.control_records import HEADERS, JUNK
from chaos.fuzz.raw_batches import RawRecord
from schemas.configuration.settings import Settings
from schemas.records import Rejection
from stream_app.decisions import dead_letters


class RawOrigin(msgspec.Struct):
    """Origin of a dead letter, as its headers state it."""

    topic: str
    partition: int
    offset: int
    headers: dead_letters.Headers = ()


def letters(settings: Settings, rng: random.Random) -> Iterator[RawRecord]:
    """Endless dead letters with changed headers and values."""
    why = Rejection(row=0, code="bad-number", field="monto", value="mil", expected="a number")
    while True:
        origin = RawOrigin(settings.transactions_topic, rng.randrange(-1, 4), rng.choice((0, 1, 2**40, 2**63 - 1)))
        name = f"t-{rng.randrange(5_000)}"
        written = dead_letters.headers(why, origin, group=settings.consumer_group, transaction_id=name)
        headers: list[tuple[bytes | None, bytes | None]] = [(h.encode(), v) for h, v in written]
        for _ in range(rng.choice((0, 1, 3))):
            at = rng.randrange(len(headers))
            junk = rng.choice((None, b"", b"\xff", b"-1", b"9" * 30, b"[/x]", b"k" * 2_000))
            headers[at] = (headers[at][0] if rng.random() < 0.9 else b"\xff\xfe", junk)
        value = (
            rng.choice(JUNK) if rng.random() < 0.7 else b'{"ID_USER":"7","monto":"1,5","fecha":"5/01/2020","hora":"13"}'
        )
        yield RawRecord(value, b"k", (*headers, *rng.choice(HEADERS)))
