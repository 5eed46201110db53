"""Format of the file of rejected rows. `tamiz score` writes it, and reads it again after corrections. Pure."""

from collections.abc import Sequence
from typing import Any

from schemas.records import Rejection
from schemas.security.sanitizer import csv_value

COLUMNS = ("rejected_row", "rejected_line", "rejected_code", "rejected_field", "rejected_value", "rejected_expected")


def rejection_cells(rejection: Rejection, line: int | None) -> dict[str, Any]:
    """Values of a rejection by the name of their column. line: of the file; None if the container has no lines."""
    cells = {
        "rejected_row": rejection.row + 1,
        "rejected_line": line,
        "rejected_code": rejection.code,
        "rejected_field": rejection.field,
        "rejected_value": rejection.value,
        "rejected_expected": rejection.expected,
    }
    return {name: cells[name] for name in COLUMNS}


def holds_rejected_rows(header: Sequence[str]) -> bool:
    """Whether a CSV file with this header is a file of rejected rows; then `csv_cell` wrote each of its cells."""
    return set(COLUMNS) <= set(header)


def own_fields(cells: Sequence[str]) -> list[str]:
    """Original fields of a line, with the effect of `csv_cell` undone.

    >>> own_fields(["'=1+1", "-7.25"])
    ['=1+1', '-7.25']
    """
    return [csv_value(cell) for cell in cells]
