"""Key and amount of a payload, for peers that only count and sum."""

import json
from typing import Any


def amount_of(value: bytes) -> float:
    """The amount of a transaction, whose decimal mark is a point or a comma; 0 for what cannot be read."""
    try:
        found: Any = json.loads(value)["monto"]
        return float(found.replace(",", ".")) if isinstance(found, str) else float(found)
    except (ValueError, KeyError, TypeError):
        return 0.0
