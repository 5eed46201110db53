"""JSON payloads -> raw columns. Pure; a bad payload is a `Fault` of its row and touches no other.

Most payloads are flat objects of texts under declared names. Those are decoded at once into tuples; whatever else an
object may be takes the careful path, which alone decides what is rejected. Both give the same values.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from scoring.input.value_parsing import Fault

MAX_DEPTH = 4


class Decoded(NamedTuple):
    """A batch of payloads, decoded."""

    rows: list[int]  # places of the payloads that are objects, ascending
    columns: dict[str, Sequence[Any]]  # a raw value for each of these rows; None where the object has none
    faults: dict[int, Fault]  # by place of the payload


def decode_payloads(names: tuple[str, ...], payloads: Sequence[bytes | None], max_payload_bytes: int) -> Decoded:
    """Decode JSON objects and look for `names` in them. Never raises for what a payload holds."""
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
                # A key that is given twice leaves quotation marks behind that nothing here accounts for.
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
    return Decoded(rows, dict(zip(names, columns, strict=True)), faults)


@lru_cache(32)
def _flat_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """Of an object that holds nothing but texts, each under one of the names."""
    # A default is not checked against its type: None says that the key is absent, and nothing else does.
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
    # A decoder keeps the last of two equal keys and says nothing. Every key and every text in the payload has two
    # quotation marks that are not escaped, and what the decoder dropped had them too: equal counts mean that nothing
    # was dropped. Only an escaped backslash makes it unclear which quotation mark is escaped.
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
    """Keys and texts in an object, or None when it is nested deeper than `depth`."""
    values = value.values()
    kinds = list(map(type, values))
    count = len(kinds) + kinds.count(str)
    if dict in kinds or list in kinds:
        for inner in values:
            if type(inner) is list:
                inner = dict(enumerate(inner))
                count -= len(inner)  # a list's places are no keys
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
