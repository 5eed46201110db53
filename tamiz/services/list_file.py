"""Reads a CSV file of values for a list."""

import csv
from pathlib import Path
from typing import NamedTuple

from schemas.dataset.profiles import parse_duration
from schemas.dataset.time_formats import NO_OFFSET, parse_iso
from schemas.errors import RuleError


class ListRow(NamedTuple):
    """A row of the file; an empty text where it states none."""

    value: str
    reason: str
    until: str


def read_list_file(path: Path, field: str) -> list[ListRow]:
    """The rows of a file whose values are in the column of this name; blank lines are left out.

    Raises RuleError, one line, if the file cannot be read or has no such column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            names = [name.strip() for name in reader.fieldnames or ()]
            if field not in names:
                raise RuleError(f"{path}: no column {field!r}; its first line names {', '.join(names) or 'none'}")
            reader.fieldnames = names
            return [ListRow(*(row.get(name, "").strip() for name in (field, "reason", "until"))) for row in reader]
    except OSError as error:
        raise RuleError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RuleError(f"{path}: not a CSV file in UTF-8: {error}") from None


def expiry_ms(text: str, now_ms: int) -> int:
    """Time of an expiry in ms since 1970: a duration from now, or a time; without an offset, UTC.

    >>> expiry_ms("24h", 0), expiry_ms("1970-01-02", 0), expiry_ms("1970-01-02T01:00:00+01:00", 0)
    (86400000, 86400000, 86400000)

    Raises RuleError if the text is neither.
    """
    if (duration_ms := parse_duration(text)) is not None:
        return now_ms + duration_ms
    if (parsed := parse_iso(text)) is None:
        raise RuleError(f"until {text!r} is neither a duration nor a time; write 24h, 30d or 2026-12-31T00:00:00Z")
    return parsed.local_ms - (0 if parsed.offset_ms == NO_OFFSET else parsed.offset_ms)
