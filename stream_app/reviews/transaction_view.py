"""What a reviewer and a label need of a transaction's payload: its fields as text, amount, entities. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.security.sanitizer import MAX_NAME_LENGTH, printable
from scoring.input.cleaning import clean_any_payloads

MAX_FIELDS = 200  # of a payload
MAX_VALUE_LENGTH = 400  # characters


class TransactionView(NamedTuple):
    """One transaction that was decided."""

    fields: dict[str, str]  # of the payload, printable, in its order
    amount: float | None
    entities: dict[str, str]  # text of the key and of the entities of all profiles, as cleaned


def read_transactions(
    dataset: Dataset, payloads: Sequence[bytes | None], max_payload_bytes: int
) -> list[TransactionView | None]:
    """One view for each payload; None if it cannot be read, such as one that is too large."""
    cleaned = clean_any_payloads(
        dataset, payloads, read_labels=False, max_payload_bytes=max_payload_bytes, record_times=None
    )
    found: list[TransactionView | None] = [None] * len(payloads)
    amounts = None if dataset.amount is None else cleaned.columns[dataset.amount]
    names = sorted({profile.entity for profile in dataset.profiles} - {dataset.key})
    for i, row in enumerate(cleaned.rows.tolist()):
        entities = {name: cleaned.columns[name][i] for name in names}
        if dataset.key is not None:
            entities[dataset.key] = cleaned.keys[i]
        amount = None if amounts is None else float(amounts[i])
        found[row] = TransactionView(
            fields=_fields(payloads[row]),
            amount=amount if amount is not None and np.isfinite(amount) else None,
            entities={name: value for name, value in entities.items() if isinstance(value, str)},
        )
    return found


def _fields(payload: bytes | None) -> dict[str, str]:
    try:
        values = msgspec.json.decode(payload or b"")
    except (msgspec.MsgspecError, ValueError):  # the cleaner also reads numbers that msgspec does not
        return {}
    if not isinstance(values, dict):
        return {}
    shown = list(values.items())[:MAX_FIELDS]
    return {printable(str(name), MAX_NAME_LENGTH): printable(_text(value), MAX_VALUE_LENGTH) for name, value in shown}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
