"""A record as a line: for people and for machines. Pure."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.text import Text

from stream_app import dead_letters
from stream_app.reading import Record

COLOURS = {"approve": "green", "review": "yellow", "decline": "red"}


def json_line(record: Record) -> bytes:
    """One JSON object on one line, without its end.

    `value` is the record's JSON as it stands, but for white space; what is no JSON goes into `value_base64` instead,
    and a key that is not UTF-8 into `key_base64`. Of headers with the same name the first one is shown.
    """
    line: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
    }
    line |= _key(record.key)
    headers: dict[str, str | None] = {}
    for name, value in record.headers:
        headers.setdefault(name, value.decode("utf-8", "replace") if value is not None else None)
    line["headers"] = headers
    line |= _value(record.value)
    return msgspec.json.encode(line)


def pretty(record: Record) -> Text:
    """One line of coloured text."""
    moment = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    start = Text(f"{moment:%H:%M:%S} {record.topic}-{record.partition}-{record.offset} ", style="dim")
    about = dead_letters.read(record.headers)
    if about is not None:
        return start + _pretty_dead_letter(about)
    value = _value(record.value)
    try:
        decoded = msgspec.json.decode(value["value"]) if value.get("value") is not None else None
    except msgspec.DecodeError:
        decoded = None
    if isinstance(decoded, dict) and decoded.get("outcome") in COLOURS:
        return start + _pretty_decision(decoded)
    key = (record.key or b"").decode("utf-8", "replace")
    return start + Text(f"{key} ", style="bold") + Text((record.value or b"null").decode("utf-8", "backslashreplace"))


def _pretty_dead_letter(about: dead_letters.DeadLetter) -> Text:
    return Text.assemble(
        (f"{about.code} ", "bold red"),
        (f"{about.field or 'payload'} ", "bold"),
        f"is {about.value}, wanted {about.wanted} ",
        (f"(from {about.origin})", "dim"),
    )


def _pretty_decision(decision: dict[str, Any]) -> Text:
    outcome = str(decision["outcome"])
    reasons = "; ".join(str(r.get("text")) for r in decision.get("reasons") or () if isinstance(r, dict))
    return Text.assemble(
        (f"{outcome:<8}", f"bold {COLOURS[outcome]}"),
        f"{float(decision.get('score', 0)):.4f} ",
        f"{decision.get('transaction_id')} ",
        (f"{decision.get('model')} v{decision.get('model_version')} ", "dim"),
        (reasons, "italic"),
    )


def _key(key: bytes | None) -> dict[str, Any]:
    try:
        return {"key": key.decode() if key is not None else None}
    except UnicodeDecodeError:
        return {"key_base64": _base64(key or b"")}


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    try:
        msgspec.json.decode(value)
        return {"value": msgspec.Raw(msgspec.json.format(value, indent=-1))}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"value_base64": _base64(value)}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
