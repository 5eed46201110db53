"""One table gives the same columns, rejections and ids as CSV, Parquet, JSON lines and topic.

`make fuzz-files` tries some thousand generated tables; the suite tries a few.
"""

import csv
import json
import math
import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TrainingError
from scoring.input.cleaning import CleanedBatch, clean_payloads
from tamiz.batch.file_payloads import check_file, file_payloads
from training.data.chunk import known_labels
from training.data.history import read_file

TABLES = int(os.environ.get("TAMIZ_FUZZ_TABLES", "60"))
DECLARATION = """
name = "any"
key = "who"
transaction_id = "id"
label = "fraud"
missing = ["", "NA", "-1"]
decimal = "."
features = ["amount", "flag", "place", "os", "score"]
[event_time]
date = "when"
formats = ["%d/%m/%Y", "{numeric}"]
{hour}
zone = "{zone}"
[[fields]]
name = "amount"
kind = "number"
[[fields]]
name = "flag"
kind = "boolean"
[[fields]]
name = "place"
kind = "category"
[[fields]]
name = "device"
kind = "mapping"
[[fields.entries]]
name = "os"
key = "os"
kind = "category"
[[fields.entries]]
name = "score"
key = "score"
kind = "number"
"""


class ColumnCase(NamedTuple):
    """A column in its three containers."""

    array: pa.Array
    texts: list[str]  # of a CSV file
    values: list[Any]  # of JSON


def column(values: list[Any], kind: pa.DataType, *, as_dictionary: bool = False) -> ColumnCase:
    array = pa.array(values, kind)
    return ColumnCase(
        array.dictionary_encode() if as_dictionary else array,
        [text(v) for v in values],
        [json_value(v) for v in values],
    )


def text(value: Any) -> str:
    """The text that an exporter writes for a value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return "{" + ", ".join(f"'{key}': {v!r}" for key, v in value.items()) + "}"
    return str(value)


def json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, bool | int | float | str | dict) else text(value)


TEXTS = st.sampled_from(
    (
        *("", "NA", "-1", " X ", "x", "7", "7.0", "007", "123.0", "TRUE", "false", "4.1E+15", "1e3", "12.125", "1,5"),
        *("=1+1", "Física", "FÃ\xadsica", 'a"b', "a,b", "a\nb", "a\r\nb", "'", "é" * 201, "yes", "No", "{'os': 'A'}"),
        *("5/01/2020", "20200105", "2020-01-05", "2020-01-05T10:00:00+02:00", "2020-01-05 10:00", "2020-04-05T02:30"),
        *("1578229200", "43835.5"),
    )
)
ZONES = ["UTC", "America/Mexico_City", "Europe/Berlin"]
DAYS = st.dates(date(1960, 1, 1), date(2250, 1, 1))
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 30) | st.just(20200105) | st.just(1_578_229_200)
FLOATS = st.floats() | st.integers(-2, 40).map(float) | st.sampled_from([1e16, 4.1e15, 20200105.0, 1_578_229_200.0])


@st.composite
def columns(draw: st.DrawFn, rows: int) -> ColumnCase:
    """A column of one type, with gaps."""

    def values(of: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(of | st.none(), min_size=rows, max_size=rows))

    kind = draw(
        st.sampled_from(["text", "text", "levels", "whole", "small", "unsigned", "float", "float32", "flag", "decimal"])
        | st.sampled_from(["date", "time", "zoned", "bytes", "null"])
    )
    match kind:
        case "text":
            return column(values(TEXTS | st.text(st.characters(exclude_characters="\0", codec="utf-8"))), pa.string())
        case "levels":
            return column(values(TEXTS), pa.string(), as_dictionary=True)
        case "whole":
            return column(values(WHOLE), pa.int64(), as_dictionary=draw(st.booleans()))
        case "small":
            return column(values(st.integers(-2, 127)), pa.int8())
        case "unsigned":
            return column(values(st.integers(0, 2**64 - 1)), pa.uint64())
        case "float":
            return column(values(FLOATS), pa.float64())
        case "float32":
            return column(values(st.floats(width=32)), pa.float32())
        case "flag":
            return column(values(st.booleans()), pa.bool_())
        case "decimal":
            places = draw(st.integers(0, 4))
            numbers = values(st.integers(-(10**9), 10**9) | st.integers(-10, 10))
            scaled = [None if v is None else Decimal(v).scaleb(-places) for v in numbers]
            return column(scaled, pa.decimal128(20, places))
        case "date":
            return column(values(DAYS), draw(st.sampled_from([pa.date32(), pa.date64()])))
        case "time":
            moments = values(DAYS.map(lambda d: datetime(d.year, d.month, d.day)) | st.datetimes(*BOUNDS))
            return column(*_in_unit(moments, draw(st.sampled_from(["s", "ms", "us", "ns"])), None))
        case "zoned":
            zone = draw(st.sampled_from(ZONES))
            moments = values(st.datetimes(*BOUNDS).map(lambda t: t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))))
            return column(*_in_unit(moments, draw(st.sampled_from(["s", "ms", "us", "ns"])), zone))
        case "bytes":
            return column(values(TEXTS.map(str.encode)), pa.binary())
    return column([None] * rows, pa.null())


BOUNDS = (datetime(1969, 1, 1), datetime(2202, 1, 1))
STEPS_US = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}


def _in_unit(moments: list[Any], unit: str, zone: str | None) -> tuple[list[Any], pa.DataType]:
    cut = [m and m - timedelta(microseconds=m.microsecond % STEPS_US[unit]) for m in moments]
    return cut, pa.timestamp(unit, zone)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, ColumnCase]]:
    """A declaration, and a table of columns of any type in any role; half of the times and keys are plain."""
    rows = draw(st.integers(1, 5))
    table = {name: draw(columns(rows)) for name in ("id", "amount", "flag", "place", "fraud", "hour", "when", "who")}
    if draw(st.booleans()):
        table["when"] = column(["2020-01-05T10:00"] * rows, pa.string())
    if draw(st.booleans()):
        table["who"] = column(["a"] * rows, pa.string())
    device = st.fixed_dictionaries(
        {"os": st.sampled_from(["WEB", "NA", None, "7.0"]), "score": st.none() | st.integers(-2, 5)}
    )
    devices = draw(st.lists(st.none() | device, min_size=rows, max_size=rows))
    table["device"] = column(devices, pa.struct([("os", pa.string()), ("score", pa.int64())]))
    numeric = draw(st.sampled_from(["%Y%m%d", "epoch_s", "excel"]))
    hour = draw(st.sampled_from(["", 'hour = "hour"']))
    zone = "UTC" if numeric == "epoch_s" else "America/Mexico_City"
    return DECLARATION.format(numeric=numeric, hour=hour, zone=zone), table


def write(folder: Path, table: dict[str, ColumnCase]) -> list[Path]:
    """The table as CSV, Parquet and JSON lines."""
    rows = range(len(next(iter(table.values())).texts))
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows([c.texts[i] for c in table.values()] for i in rows)
    parquet.write_table(pa.table({name: c.array for name, c in table.items()}), folder / "t.parquet")
    lines = [json.dumps({name: c.values[i] for name, c in table.items()}) for i in rows]
    (folder / "t.jsonl").write_text("\n".join(lines) + "\n")
    return [folder / "t.csv", folder / "t.parquet", folder / "t.jsonl"]


def outcome(batch: CleanedBatch) -> dict[str, Any]:
    """What cleaning found, comparable."""
    return {
        "rows": batch.rows.tolist(),
        "ids": batch.transaction_ids,
        "times": batch.event_time_ms.tolist(),
        "labels": [None if np.isnan(v) else v for v in known_labels(batch)],
        "rejections": [(r.row, r.code, r.field) for r in batch.rejections],
        "columns": {
            name: [None if v is None or v != v else v for v in values.tolist()]
            for name, values in batch.columns.items()
        },
    }


def from_file(path: Path, dataset: Dataset) -> dict[str, Any]:
    return outcome(read_file(path, dataset, read_labels=True).cleaned)


def from_topic(path: Path, dataset: Dataset) -> dict[str, Any]:
    return outcome(clean_payloads(dataset, list(file_payloads(path, dataset)), read_labels=True))


@given(tables())
@settings(max_examples=TABLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_table_is_read_alike_in_every_container(drawn: tuple[str, dict[str, ColumnCase]]) -> None:
    declaration, table = drawn
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "d.toml").write_text(declaration)
        dataset = load_dataset(str(Path(scratch) / "d.toml"))
        found = {}
        for path in write(Path(scratch), table):
            found[path.suffix] = from_file(path, dataset)
            found[f"{path.suffix} by topic"] = from_topic(path, dataset)
    first = found.pop(".csv")
    for other, result in found.items():
        assert result == first, other


def test_typed_dates_are_not_sent_if_a_format_reads_their_text_as_other_dates(tmp_path: Path) -> None:
    swapped = DECLARATION.replace("%d/%m/%Y", "%Y-%d-%m").format(numeric="%Y%m%d", hour="", zone="UTC")
    (tmp_path / "d.toml").write_text(swapped)
    table = {"who": column(["a"], pa.string()), "when": column([date(2020, 1, 5)], pa.date32())}
    _, path, _ = write(tmp_path, table)
    dataset = load_dataset(str(tmp_path / "d.toml"))
    assert from_file(path, dataset)["times"] == [1_578_182_400_000]
    with pytest.raises(TrainingError, match="the column 'when' holds dates"):
        check_file(path, dataset)
