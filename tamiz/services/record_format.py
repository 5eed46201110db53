"""Formats a record as one line: for people, or as JSON. Pure."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.text import Text

from schemas.dataset.declaration import Dataset
from schemas.security.sanitizer import json_line as safe_json
from schemas.security.sanitizer import terminal
from stream_app.decisions import dead_letters
from stream_app.kafka.topic_reader import ConsumedRecord
from tamiz.services.record_summary import summarize


def json_line(record: ConsumedRecord) -> bytes:
    """One JSON object on one line, without the line feed.

    `value` is the record's JSON without white space; a value that is not JSON becomes `value_base64`, a key that is not
    UTF-8 `key_base64`. Of headers with the same name only the first is included.
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
    return safe_json(msgspec.json.encode(line).decode()).encode()


def text_line(record: ConsumedRecord, role: str, dataset: Dataset | None = None) -> Text:
    """One line of coloured text.

    role: of the topic, as in `schemas.topics.topic_table`. dataset: names the values of `feature-log`.
    """
    start = Text(f"{_time(record.timestamp)} {record.topic}-{record.partition}-{record.offset} ", style="dim")
    about = dead_letters.read(record.headers)
    if about is not None:
        return start + _dead_letter_line(about)
    line = summarize(role, record.value, dataset)
    if line is None:  # not a valid record of this topic: print it raw
        line = Text(_raw_text(record.key or b"") + " ", style="bold") + Text(_raw_text(record.value or b"null"))
    return start + line


def _raw_text(raw: bytes) -> str:
    return terminal(raw.decode("utf-8", "backslashreplace"))


def _time(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a producer may set any timestamp
        return f"{ms} ms"


def _dead_letter_line(about: dead_letters.DeadLetter) -> Text:
    return Text.assemble(
        (f"{terminal(about.code)} ", "bold red"),
        (f"{terminal(about.field or 'payload')} ", "bold"),
        f"is {terminal(about.value)}, expected {terminal(about.expected)} ",
        (f"(from {terminal(about.origin)})", "dim"),
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
