"""Makes payloads of the card data set invalid, in several ways, so that they cannot be scored."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def _with_fields(**fields: object) -> Callable[[bytes], bytes]:
    return lambda payload: json.dumps(json.loads(payload) | fields, ensure_ascii=False).encode()


def _without_amount(payload: bytes) -> bytes:
    return json.dumps({k: v for k, v in json.loads(payload).items() if k != "monto"}, ensure_ascii=False).encode()


INVALIDATORS: Mapping[str, Callable[[bytes], bytes]] = {
    "truncated": lambda payload: payload[: len(payload) // 2],
    "empty": lambda payload: b"",
    "not UTF-8": lambda payload: payload.replace(b'"fecha"', b'"fech\xe1"'),
    "array": lambda payload: b"[" + payload + b"]",
    "amount absent": _without_amount,
    "amount in words": _with_fields(monto="seiscientos"),
    "amount NaN": _with_fields(monto=float("nan")),
    "amount infinite": lambda payload: b'{"monto":1e999,' + payload[1:],
    "amount an object": _with_fields(monto={"amount": 1}),
    "no such day": _with_fields(fecha="31/02/2020"),
}


def invalidate_some(payloads: Sequence[bytes], share: float, rng: np.random.Generator) -> list[bytes]:
    """Make each payload invalid with probability `share`, in one of the ways above, chosen uniformly."""
    ways = list(INVALIDATORS.values())
    result = list(payloads)
    for row in np.flatnonzero(rng.random(len(payloads)) < share).tolist():
        result[row] = ways[rng.integers(0, len(ways))](payloads[row])
    return result
