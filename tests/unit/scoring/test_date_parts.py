"""Dates in several fields: the same instant as in one text, in every container."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from scoring.input.cleaning import clean_columns, clean_payloads
from stream_app.decisions.probe import EVENT_TIME, good_payload

PARTS = """
name = "parts"
key = ""
features = ["amount"]
[event_time]
date = ["Year", "Month", "Day", "Time"]
formats = ["%Y %m %d %H:%M"]
[[fields]]
name = "amount"
kind = "number"
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "parts.toml").write_text(PARTS)
    return load_dataset(str(tmp_path / "parts.toml"))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("2002", "9", "1", "06:21"), id="texts"),
        pytest.param((2002, 9, 1, "06:21"), id="whole numbers"),
        pytest.param((2002.0, 9.0, 1.0, "06:21"), id="floats"),
        pytest.param((" 2002", "09", "01 ", "6:21"), id="spaces and zeros"),
    ],
)
def test_parts_are_read_as_one_time(dataset: Dataset, parts: tuple[object, ...]) -> None:
    row = dict(zip(("Year", "Month", "Day", "Time"), parts, strict=True)) | {"amount": 1}
    for cleaned in (
        clean_columns(dataset, {name: [value] for name, value in row.items()}),
        clean_payloads(dataset, [msgspec.json.encode(row)]),
    ):
        assert cleaned.event_time_ms.tolist() == [datetime(2002, 9, 1, 6, 21, tzinfo=UTC).timestamp() * 1000]


@pytest.mark.parametrize("lost", ["Year", "Month", "Day", "Time"])
@pytest.mark.parametrize("value", [None, "", float("nan")], ids=str)
def test_a_missing_part_rejects_the_row(dataset: Dataset, lost: str, value: object) -> None:
    columns = {"Year": ["2002"], "Month": ["11"], "Day": ["1"], "Time": ["06:21"], "amount": [1]}
    cleaned = clean_columns(dataset, columns | {lost: [value]})
    assert [(r.code, r.field) for r in cleaned.rejections] == [("not-a-date", "Year Month Day Time")]


def test_the_probe_is_read_without_a_key_and_with_parts(dataset: Dataset) -> None:
    assert clean_payloads(dataset, [good_payload(dataset)]).event_time_ms.tolist() == [EVENT_TIME.timestamp() * 1000]
