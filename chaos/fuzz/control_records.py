"""Hostile records of control topics: valid records with random changes, and raw junk. Pure.

If a changed record is still valid, its model name is changed, so that no service acts on a hostile record.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from chaos.fuzz.raw_batches import RawRecord
from schemas.json_codec import decode
from schemas.records import Decision, DriftAlert, DriftReport, Label, ModelEvent, PaneSnapshot, RetrainRequest
from schemas.time_units import DAY_MS, HOUR_MS
from stream_app.kafka.plausibility import implausibility

Json = dict[str, Any]
YEAR_MS = 365 * DAY_MS
NUMBERS = (-1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63), -(2**70), 0.5, 1e300, -1e300)
TIMES = (-62_135_596_800_001, 253_402_300_799_999, 253_402_300_800_000, 7_258_118_399_999)
TEXTS = (
    "",
    "x",
    "\0",
    "[/nope]",
    "\x1b[2J",
    "=HYPERLINK(1)",
    "\u202e",
    "\ud7ff",
    "$\\frac{$",
    "<!channel>",
    "a" * 5_000,
)
VALUES: tuple[Any, ...] = (
    *(*NUMBERS, *TIMES, *TEXTS, None, True, [], {}, [[[[]]]], {"a": {"b": []}}, [None] * 300),
    *(float("nan"), float("inf"), ["x"] * 2_000, {"x" * 300: "y"}),
)
JUNK = (
    *(
        None,
        b"",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b"9" * 5_000,
        b'"\xff"',
        b"\xff\xfe\x00",
        b'{"model":"\xff"}',
        b"\x00" * 99,
    ),
    *(
        b"[" * 50_000,
        b'{"x":' * 20_000,
        b'{"model":"\\ud800"}',
        b'"' + b"x" * 200_000 + b'"',
        b"\x00\x01\x02Avro",
        b"{",
    ),
)
HEADERS: tuple[tuple[tuple[bytes | None, bytes | None], ...], ...] = (
    (),
    ((b"traceparent", b"\xff" * 50),),
    ((b"\xff\xfe", b"x"), (b"tamiz-offset", b"9" * 30)),
    ((b"tamiz-offset", None), (b"ce_id", None)),
    ((b"tamiz-redriven-from", b"\xff"), (b"__connect.errors.topic", b"transactions"), (b"tamiz-error-code", b"[/x]")),
    (
        (b"__connect.errors.topic", b"transactions"),
        (b"__connect.errors.partition", b"-1"),
        (b"__connect.errors.offset", b"9" * 30),
        (b"tamiz-truncated-value-sha256", b"0" * 64),
    ),
)
KEYS = (None, b"", b"card-transactions", b"\xff", b"k" * 20_000)


def hostile_records(
    good: Sequence[msgspec.Struct], rng: random.Random, *, model: str, version: int, now_ms: int
) -> Iterator[RawRecord]:
    """Endless hostile records. good: valid records to change; model, version: served ones; now_ms: time of writing."""
    templates = [(type(record), msgspec.json.encode(record)) for record in good]
    poison = [p for p in POISON if any(isinstance(record, POISON[p]) for record in good)]
    while True:
        kind = rng.random()
        of, encoded = rng.choice(templates)
        value: bytes | None
        if kind < 0.15:
            value = rng.choice(JUNK)
        elif kind < 0.3:
            value = _damaged(encoded, rng)
        else:
            record = json.loads(encoded)
            applying = [p for p in poison if issubclass(of, POISON[p])]
            if kind < 0.5 and applying:
                rng.choice(applying)(record, rng, now_ms)
            else:
                for _ in range(rng.choice((1, 1, 2, 5))):
                    _change(record, rng)
            value = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if value is not None and _is_good(value, of, model, version, now_ms):
            value = msgspec.json.encode(msgspec.structs.replace(decode(value, of), **_foreign(of)))
        yield RawRecord(value, rng.choice(KEYS) if rng.random() < 0.3 else b"k", rng.choice(HEADERS))


def _foreign(of: type[msgspec.Struct]) -> dict[str, Any]:
    return {"model": "another"} if "model" in of.__struct_fields__ else {}


def _is_good(value: bytes, of: type[Any], model: str, version: int, now_ms: int) -> bool:
    try:
        record = decode(value, of)
    except msgspec.MsgspecError:
        return False
    if getattr(record, "model", model) != model or implausibility(record, now_ms + HOUR_MS) is not None:
        return False
    # Events of unknown versions are notified, at a bounded rate, and requests are answered for any version.
    return isinstance(record, ModelEvent | RetrainRequest) or getattr(record, "model_version", version) == version


def _change(record: Any, rng: random.Random) -> None:
    """Replace or delete a random part of a record."""
    at = record
    while True:
        places = list(at) if isinstance(at, dict) else range(len(at))
        if not places:
            return
        place = rng.choice(places)
        below = at[place]
        if isinstance(below, dict | list) and below and rng.random() < 0.7:
            at = below
            continue
        if isinstance(at, dict) and rng.random() < 0.1:
            del at[place]
        else:
            at[place] = copy.deepcopy(rng.choice(VALUES))
        return


def _damaged(encoded: bytes, rng: random.Random) -> bytes:
    where = rng.randrange(len(encoded) + 1)
    match rng.randrange(6):
        case 0:
            return encoded[:where]
        case 1:
            return encoded[:where] + bytes([rng.randrange(256)]) + encoded[where + 1 :]
        case 2:
            return encoded[:where] + (rng.choice(JUNK) or b"") + encoded[where:]
        case 3:  # a duplicate key, and an unknown one, nested deeply
            return encoded.replace(b"{", b'{"model":"x","model":7,"unknown":' + b"[" * 900 + b"]" * 900 + b",", 1)
        case 4:
            return encoded + encoded
        case _:
            return encoded.replace(b":", b":-", rng.randrange(1, 9))


def _snapshot_offset(record: Json, rng: random.Random, now_ms: int) -> None:
    record |= {"last_offset": rng.choice((2**40, 2**62, 2**63 - 1)), "open": True, "panes": []}


def _snapshot_watermark(record: Json, rng: random.Random, now_ms: int) -> None:
    record |= {"watermark_ms": now_ms + rng.choice((2 * HOUR_MS, YEAR_MS, 70 * YEAR_MS)), "open": True}


def _snapshot_rows(record: Json, rng: random.Random, now_ms: int) -> None:
    for pane in record["panes"]:
        pane |= {"rows": rng.choice((2**31, 2**62, 2**63 - 1)), "last_offset": record["last_offset"]}


def _snapshot_late(record: Json, rng: random.Random, now_ms: int) -> None:
    record["late"] = 2**63 - 1


def _snapshot_layout(record: Json, rng: random.Random, now_ms: int) -> None:
    record |= {"layout": "0" * 16, "open": True, "last_offset": 2**62}


def _snapshot_counts(record: Json, rng: random.Random, now_ms: int) -> None:
    for pane in record["panes"]:
        pane |= {"codes": rng.choice(("", "AAAA", "/////w==", "AAAAAA==")), "counts": rng.choice(("", "/////w=="))}


def _version(record: Json, rng: random.Random, now_ms: int) -> None:
    record["model_version"] = rng.choice((2, 77, 2**31 - 1, rng.randrange(2**31)))


def _report_until(record: Json, rng: random.Random, now_ms: int) -> None:
    record["until_ms"] = now_ms + rng.choice((2 * HOUR_MS, YEAR_MS))


def _alert_times(record: Json, rng: random.Random, now_ms: int) -> None:
    record["happened_at_ms"] = now_ms + rng.choice((-YEAR_MS * 40, 2 * HOUR_MS, YEAR_MS))


def _alert_evidence(record: Json, rng: random.Random, now_ms: int) -> None:
    for evidence in record["evidence"]:
        evidence["labels"] = evidence["labels"] * rng.choice((0, 2, 100))


def _future(record: Json, rng: random.Random, now_ms: int) -> None:
    for name in ("happened_at_ms", "reported_at_ms", "event_time_ms"):
        if name in record:
            record[name] = now_ms + rng.choice((2 * HOUR_MS, YEAR_MS, 70 * YEAR_MS))


def _request_times(record: Json, rng: random.Random, now_ms: int) -> None:
    record |= rng.choice(
        (
            {"from_ms": now_ms, "until_ms": now_ms - YEAR_MS},
            {"from_ms": now_ms, "until_ms": now_ms},
            {"from_ms": now_ms + YEAR_MS, "until_ms": now_ms + 2 * YEAR_MS},
            {"requested_at_ms": now_ms + YEAR_MS},
        )
    )


# Changes that keep a record well-formed but implausible, and the records that they apply to.
POISON: dict[Callable[[Json, random.Random, int], None], Any] = {
    _snapshot_offset: PaneSnapshot,
    _snapshot_watermark: PaneSnapshot,
    _snapshot_rows: PaneSnapshot,
    _snapshot_late: PaneSnapshot,
    _snapshot_layout: PaneSnapshot,
    _snapshot_counts: PaneSnapshot,
    _version: (PaneSnapshot, DriftReport, Decision),
    _report_until: DriftReport,
    _alert_times: DriftAlert,
    _alert_evidence: DriftAlert,
    _future: (ModelEvent, Label, Decision),
    _request_times: RetrainRequest,
}
