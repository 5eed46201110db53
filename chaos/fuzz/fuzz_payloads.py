"""Fuzzing of the handler with millions of hostile payloads: each must become a decision or a dead letter.

Runs the worker's steps for a batch without Kafka: clean, score, decide, count. Memory must stay flat.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import msgspec
import numpy as np
import psutil

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.panes import PartitionPanes
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.time_units import MINUTE_MS
from stream_app.decisions.batch_records import Headers
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy, handle_with_isolation
from tamiz.simulation.payload_formats import payloads
from tamiz.simulation.simulator import Traffic, simulate

BATCH = 2_000
FAULTS = (0, 0, 1, 1, 2, 4)  # number of faults per payload
AMOUNT = re.compile(rb'("monto":"?\d+[.,]\d)\d*')
HOSTILE = (
    *(b"null", b"[]", b"{}", b"-0", b"1e308", b"1e999", b"NaN", b"9" * 500, b'"\\ud800"', b'"\\u0000"', b"\xff\xfe"),
    *(b"[" * 300 + b"]" * 300, b'{"a":' * 50, b'"' + b"x" * 5_000 + b'"', b"\xef\xbb\xbf", b"true", b"'", b"\\", b","),
)


class HostileRecord(msgspec.Struct):
    """A record in the form that the worker consumes."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class FuzzPayloadsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the run."""

    payloads: int
    decided: int
    dead_lettered: int
    codes: dict[str, int]  # of the dead letters
    internal_errors: int  # payloads that raised an exception and therefore became dead letters
    memory_after_a_tenth_mb: float
    memory_at_the_end_mb: float


def fuzz_payloads(settings: Settings, model: MonitoredModel, n: int, seed: int) -> FuzzPayloadsResult:
    """Pass n payloads to the handler. Raises AssertionError if one is not answered exactly once."""
    policy = HandlerPolicy.from_settings(settings, load_dataset(settings.dataset), counting=True)
    fold = PartitionPanes(model.bins, 0, settings.allowed_lateness_minutes * MINUTE_MS)
    process = psutil.Process()
    codes: Counter[str] = Counter()
    decided = dead = 0
    early = 0.0
    stream = hostile_payloads(seed)
    for start in range(0, n, BATCH):
        size = min(BATCH, n - start)
        records = [HostileRecord("fuzz", 0, start + i, None, next(stream)) for i in range(size)]
        handled = handle_with_isolation(records, model, policy)
        answered = sorted([int(dict(d.headers)[OFFSET_HEADER] or b"") for d in handled.decisions])
        assert len(answered) == len(set(answered))
        assert len(answered) + len(handled.dead_letters) == size
        decided += len(answered)
        dead += len(handled.dead_letters)
        codes.update(r.code for r in handled.rejections)
        if handled.coded is not None:
            fold.update(*handled.coded, np.array([r.offset for r in records]))
            fold.snapshot()
        if start <= n // 10:
            early = process.memory_info().rss / 1e6
    return FuzzPayloadsResult(
        payloads=n,
        decided=decided,
        dead_lettered=dead,
        codes=dict(codes.most_common()),
        internal_errors=codes["internal-error"],
        memory_after_a_tenth_mb=round(early, 1),
        memory_at_the_end_mb=round(process.memory_info().rss / 1e6, 1),
    )


def hostile_payloads(seed: int) -> Iterator[bytes | None]:
    """Endless payloads: valid ones, each with a distinct amount, and valid ones with random faults."""
    rng = random.Random(seed)
    draw = rng.random  # randrange and choice are five times as slow
    traffic = Traffic(rows=20_000, seed=seed, payload_format="mixed", invalid_share=0.05)
    good = [_around_amount(value) for _, values in payloads(traffic, simulate(traffic)) for value in values]
    for number in count(1):
        head, tail = good[int(draw() * len(good))]
        value = b"%b%d%b" % (head, number, tail)
        for _ in range(FAULTS[int(draw() * len(FAULTS))]):
            value = _with_fault(value, draw, number)
        yield value if number % 997 else None


def _around_amount(value: bytes) -> tuple[bytes, bytes]:
    """The parts of a payload before and after the last decimals of its amount, where a number can be inserted.

    >>> _around_amount(b'{"monto":"24,7438","hora":1}')
    (b'{"monto":"24,7', b'","hora":1}')
    """
    found = AMOUNT.search(value)
    return (value[: found.end(1)], value[found.end() :]) if found else (value, b"")


def _with_fault(value: bytes, draw: Callable[[], float], number: int) -> bytes:
    where = int(draw() * (len(value) + 1))
    match int(draw() * 9):
        case 0:  # a bit flips
            return value[:where] + bytes((int(draw() * 256),)) + value[where + 1 :]
        case 1:  # truncated
            return value[:where]
        case 2:  # hostile bytes inserted
            return value[:where] + HOSTILE[int(draw() * len(HOSTILE))] + value[where:]
        case 3:  # a hostile value
            head, colon, tail = value.partition(b":")
            return b"%b%b%b,%b" % (head, colon, HOSTILE[int(draw() * len(HOSTILE))], tail)
        case 4:  # an unknown key
            return value.replace(b"{", b'{"unseen-%d": %d, ' % (number, number), 1)
        case 5:  # an unknown category
            return value.replace(b"ANDROID", b"SYSTEM-%d" % number).replace(b'"M"', b'"M-%d"' % number)
        case 6:  # a duplicate key
            return value.replace(b"{", b'{"monto": "1", ', 1)
        case 7:  # another digit
            return value.replace(b"%d" % int(draw() * 10), b"%d" % int(draw() * 10), 1)
        case _:  # repeated
            return value + value[where:]
