"""Every row of the tables "What is read how" of docs/data-set.md, read as the page says."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from scoring.input.cleaning import CleanedBatch, clean_columns, clean_payloads
from scoring.input.text_parsing import identifier
from tests.helpers.documents.doc_runner import PAGES

DECLARATION = """
name = "page"
key = "who"
transaction_id = "id"
label = "fraud"
{keys}
features = ["number", "boolean", "category"]
[event_time]
date = "when"
{time}
[[fields]]
name = "number"
kind = "number"
[[fields]]
name = "boolean"
kind = "boolean"
[[fields]]
name = "category"
kind = "category"
"""
FIELDS = {"Numbers": "number", "Booleans": "boolean", "Labels": "fraud", "Categories": "category", "Times": "when"}
TIME_KEYS = ("formats", "origin", "hour", "zone", "repeated_hour")
VALID = {"who": "a", "when": "2020-01-05T10:00"}
TYPES: dict[str, Any] = {
    "": str,
    "number": json.loads,
    "boolean": json.loads,
    "list": json.loads,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "bytes": lambda text: text.encode("latin-1").decode("unicode_escape").encode("latin-1"),
}


class Row(NamedTuple):
    """A row of a table: fields of a transaction, the keys of the declaration, and what the page says."""

    table: str
    holds: str
    declared: str
    read_as: str

    @property
    def fields(self) -> list[str]:
        """The fields that the table is about."""
        return ["who", "id"] if self.table == "Keys and transaction ids" else [FIELDS[self.table]]


def rows() -> Iterator[Row]:
    """The rows of the tables under the heading."""
    page = PAGES["data-set.md"].read_text(encoding="utf-8").split("\n## What is read how\n", 1)[1]
    for title, part in re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", page, re.M | re.S):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["the file holds", "declared", "read as"]
        for line in lines[2:]:
            yield Row(title, *(cell.strip() for cell in line.strip("|").split("|")))


def value_of(cell: str) -> Any:
    """The value in a cell: a type, or none for text, and the value in backticks."""
    match = re.fullmatch(r"(\w*) ?`(.*)`", cell)
    assert match, cell
    return TYPES[match[1]](match[2])


def dataset_of(row: Row, folder: Path) -> Dataset:
    """The declaration with the keys of the row."""
    keys = [] if row.declared == "nothing" else re.findall(r"`([^`]+)`", row.declared)
    time = [key for key in keys if key.startswith(TIME_KEYS)]
    if not any(key.startswith("formats") for key in time):
        time.append('formats = ["%Y-%m-%d"]')
    own = [key for key in keys if key not in time]
    path = folder / "page.toml"
    path.write_text(DECLARATION.format(keys="\n".join(own), time="\n".join(time)), encoding="utf-8")
    return load_dataset(str(path))


def values_of(row: Row, field: str) -> dict[str, Any]:
    """A transaction with the value of the row; times may have an hour beside them: "`2020-01-05`, hour `20`"."""
    value, _, hour = row.holds.partition(", hour ")
    return VALID | {field: value_of(value)} | ({"hour": value_of(hour)} if hour else {})


def read_value(cleaned: CleanedBatch, field: str, key: Any) -> str:
    """What became of a field of the only row, as the page writes it. key: as `identifier` reads it."""
    if cleaned.rejections:
        (rejection,) = cleaned.rejections
        assert rejection.expected
        missing = rejection.code == "missing-field" and rejection.field == field
        return "missing" if missing else f"rejected: `{rejection.code}`"
    if field == "when":
        return f"{datetime.fromtimestamp(cleaned.event_time_ms[0] / 1000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
    if field == "fraud":
        found = None if cleaned.labels is None else float(cleaned.labels[0])
    else:
        found = {"who": key, "id": cleaned.transaction_ids[0]}.get(field, cleaned.columns.get(field, [None])[0])
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return "missing"
    return f"`{found}`" if isinstance(found, str) else f"{found:g}"


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.table}: {row.holds} {row.declared}")
def test_a_row_of_the_page_is_read_as_the_page_says(row: Row, tmp_path: Path) -> None:
    dataset = dataset_of(row, tmp_path)
    for field in row.fields:
        values = values_of(row, field)
        key = identifier(values["who"], frozenset(dataset.missing))
        in_file = clean_columns(dataset, {name: [value] for name, value in values.items()}, read_labels=True)
        assert read_value(in_file, field, key) == row.read_as
        if not any(isinstance(value, bytes | float) for value in values.values()):
            payload = json.dumps(values, default=str, ensure_ascii=False).encode()
            on_topic = clean_payloads(dataset, [payload], read_labels=True)
            assert read_value(on_topic, field, key) == row.read_as


def test_the_page_has_a_table_for_every_kind_of_value() -> None:
    assert {row.table for row in rows()} >= {*FIELDS, "Keys and transaction ids"}
