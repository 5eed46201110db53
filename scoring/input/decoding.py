"""Decoding: JSON payloads to raw columns. Pure. An invalid payload is a `Fault` of its row and does not affect others.

Fast path: a flat object of strings under declared names is decoded directly into a tuple. Every other payload takes the
general path, which alone decides about rejections. Both paths give the same values.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from scoring.input.value_parsing import Fault

MAX_DEPTH = 4


class DecodedBatch(NamedTuple):
    """A decoded batch of payloads."""

    rows: list[int]  # positions of the payloads that are objects, ascending
    columns: dict[str, Sequence[Any]]  # one raw value per row; None if the object lacks the name
    faults: dict[int, Fault]  # by position of the payload


def decode_payloads(names: tuple[str, ...], payloads: Sequence[bytes | None], max_payload_bytes: int) -> DecodedBatch:
    """Decode JSON objects and extract `names` from them. Does not raise for any content of a payload."""
    rows: list[int] = []
    tuples: list[tuple[Any, ...]] = []
    faults: dict[int, Fault] = {}
    flat = _flat_decoder(names).decode
    careful = msgspec.json.Decoder().decode
    astuple = msgspec.structs.astuple
    tokens = 4 * len(names)
    for row, payload in enumerate(payloads):
        if payload is not None and len(payload) <= max_payload_bytes and b"\\" not in payload:
            try:
                values = astuple(flat(payload))
            except (msgspec.MsgspecError, ValueError):
                pass
            else:
                # A duplicate key adds quotation marks, so the count differs.
                if payload.count(b'"') == tokens - 4 * values.count(None):
                    rows.append(row)
                    tuples.append(values)
                    continue
        found = _decoded(payload, careful, max_payload_bytes)
        if type(found) is dict:
            rows.append(row)
            tuples.append(tuple(map(found.get, names)))
        else:
            faults[row] = found  # type: ignore[assignment]
    columns = zip(*tuples, strict=True) if tuples else [()] * len(names)
    return DecodedBatch(rows, dict(zip(names, columns, strict=True)), faults)


@lru_cache(32)
def _flat_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """Decoder of an object whose values are all strings, under the given names."""
    # msgspec does not check a default against its type, so None means that the key is absent.
    fields = [(f"f{i}", str, None) for i in range(len(names))]
    renamed = {f"f{i}": name for i, name in enumerate(names)}
    flat = msgspec.defstruct("Flat", fields, forbid_unknown_fields=True, gc=False, rename=renamed)
    return msgspec.json.Decoder(flat)


def _decoded(payload: bytes | None, decode: Any, max_payload_bytes: int) -> dict[str, Any] | Fault:
    wanted = "a JSON object in UTF-8"
    if payload is None:
        return Fault("null", None, wanted)
    if len(payload) > max_payload_bytes:
        return Fault("too-large", f"{len(payload)} bytes", f"at most {max_payload_bytes} bytes")
    try:
        found = decode(payload)
    except RecursionError:
        return Fault("too-deep", payload, f"at most {MAX_DEPTH} levels")
    except (msgspec.MsgspecError, ValueError) as error:
        return _not_json(payload, error)
    if type(found) is not dict:
        return Fault("not-an-object", found, wanted)
    tokens = _tokens(found, MAX_DEPTH)
    if tokens is None:
        return Fault("too-deep", payload, f"at most {MAX_DEPTH} levels")
    # The decoder silently keeps the last of two equal keys. Every key and string in the payload has two unescaped
    # quotation marks, including those that the decoder dropped: equal counts mean that it dropped nothing. An escaped
    # backslash makes it ambiguous which quotation marks are escaped, so such payloads are parsed again.
    if payload.count(b'"') - payload.count(b'\\"') != 2 * tokens or b"\\\\" in payload:
        twice = _key_given_twice(payload)
        if twice is not None:
            return Fault("duplicate-key", twice, "each key once")
    return found


def _not_json(payload: bytes, error: Exception) -> Fault:
    if not payload.strip():
        return Fault("empty", payload, "a JSON object in UTF-8")
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return Fault("not-utf8", payload, f"UTF-8; byte {wrong.start} is not")
    return Fault("not-json", payload, f"a JSON object; {error}")


def _tokens(value: dict[str, Any], depth: int) -> int | None:
    """Number of keys and strings in an object, or None if it is nested deeper than `depth`."""
    values = value.values()
    kinds = list(map(type, values))
    count = len(kinds) + kinds.count(str)
    if dict in kinds or list in kinds:
        for inner in values:
            if type(inner) is list:
                inner = dict(enumerate(inner))
                count -= len(inner)  # the indices of a list are not keys
            if type(inner) is dict:
                below = _tokens(inner, depth - 1) if depth > 1 else None
                if below is None:
                    return None
                count += below
    return count


def _key_given_twice(payload: bytes) -> str | None:
    twice: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                twice.append(key)
            seen.add(key)

    json.loads(payload, object_pairs_hook=note)
    return twice[0] if twice else None
