"""A file of rejected rows, which `tamiz score` writes and reads again once it is corrected. Pure."""

from collections.abc import Sequence

from schemas.security.sanitizer import csv_value

COLUMNS = ("rejected_row", "rejected_code", "rejected_field", "rejected_value", "rejected_expected")


def holds_rejected_rows(header: Sequence[str]) -> bool:
    """Whether a CSV file with this header is one; then each of its cells was written by `csv_cell`."""
    return set(COLUMNS) <= set(header)


def own_fields(cells: Sequence[str]) -> list[str]:
    """The fields of a line as they were before `csv_cell` wrote them.

    >>> own_fields(["'=1+1", "-7.25"])
    ['=1+1', '-7.25']
    """
    return [csv_value(cell) for cell in cells]
