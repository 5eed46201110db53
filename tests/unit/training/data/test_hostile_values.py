"""Files whose marks, labels or types were once read wrongly: read through the file reader as declared, or rejected."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.dataset.declaration import Dataset, load_dataset
from scoring.decision import decision_id
from scoring.input.cleaning import CleanedBatch, clean_payloads
from stream_app.kafka.replay import message_key
from training.data.chunk import clean_chunk
from training.data.file_reader import read_chunks

DECLARATION = """
name = "small"
key = "card"
transaction_id = "id"
label = "fraud"
missing = ["", "NA"]
features = ["amount", "place"]
{declared}
[csv]
delimiter = ";"
[event_time]
date = "when"
formats = ["%Y-%m-%d"]
[[fields]]
name = "amount"
kind = "number"
[[fields]]
name = "place"
kind = "category"
"""
AMOUNTS = ("1.080,00", "1.080", "25,000", "1 080,00")
LABELS = ("0.0", "1.0", "Yes", "No", "Sí", "VERDADERO", "pending")


@pytest.fixture
def declare(tmp_path: Path) -> Any:
    def declared(keys: str = "") -> Dataset:
        path = tmp_path / "small.toml"
        path.write_text(DECLARATION.format(declared=keys), encoding="utf-8")
        return load_dataset(str(path))

    return declared


def clean_csv(folder: Path, dataset: Dataset, *, read_labels: bool = False, **columns: tuple[str, ...]) -> CleanedBatch:
    """Write a CSV file with these columns and clean it."""
    n = len(next(iter(columns.values())))
    rest = {"id": [f"t{i}" for i in range(n)], "card": ["c"] * n, "when": ["2020-01-05T10:00"] * n, "place": ["X"] * n}
    table = rest | columns
    lines = [";".join(table), *(";".join(row) for row in zip(*table.values(), strict=True))]
    (folder / "in.csv").write_text("\n".join(lines), encoding="utf-8")
    return clean_chunk(dataset, next(read_chunks(folder / "in.csv", dataset)), read_labels=read_labels)


def clean_parquet(folder: Path, dataset: Dataset, **columns: Any) -> CleanedBatch:
    """Write a Parquet file with these columns and clean it."""
    n = len(next(iter(columns.values())))
    rest = {"id": [f"t{i}" for i in range(n)], "card": ["c"] * n, "when": ["2020-01-05T10:00"] * n, "amount": [5.0] * n}
    parquet.write_table(pa.table(rest | {"place": ["X"] * n} | columns), folder / "in.parquet")
    return clean_chunk(dataset, next(read_chunks(folder / "in.parquet", dataset)))


def test_amounts_without_declared_marks_are_never_guessed(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_csv(tmp_path, declare(), amount=AMOUNTS)
    assert [(r.row, r.code, r.field) for r in cleaned.rejections] == [
        (i, "ambiguous-number", "amount") for i in range(4)
    ]
    assert all("declare decimal and thousands" in r.expected for r in cleaned.rejections)


@pytest.mark.parametrize(
    ("declared", "amounts"),
    [
        ('decimal = ","\nthousands = "."', [1080, 1080, 25]),
        ('decimal = ","\nthousands = " "', [25, 1080]),
        ('decimal = "either"', [1.08, 25]),
    ],
)
def test_amounts_with_declared_marks_are_read(
    tmp_path: Path, declare: Any, declared: str, amounts: list[float]
) -> None:
    cleaned = clean_csv(tmp_path, declare(declared), amount=AMOUNTS)
    assert cleaned.columns["amount"].tolist() == amounts
    assert {r.code for r in cleaned.rejections} == {"not-a-number"}


def test_labels_in_the_usual_spellings_are_read_and_others_rejected(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_csv(tmp_path, declare(), read_labels=True, fraud=LABELS)
    assert cleaned.labels is not None
    assert cleaned.labels.tolist() == [0, 1, 1, 0, 1, 1]
    (rejection,) = cleaned.rejections
    assert (rejection.row, rejection.code, rejection.field, rejection.value) == (6, "not-a-boolean", "fraud", "pending")
    assert "label_values" in rejection.expected


def test_a_label_that_is_declared_unknown_is_no_rejection(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_csv(tmp_path, declare('label_values.unknown = ["pending"]'), read_labels=True, fraud=LABELS)
    assert cleaned.rejections == []
    assert cleaned.labels is not None
    assert np.isnan(cleaned.labels[6])


def test_an_unreadable_label_rejects_no_transaction_that_is_only_scored(tmp_path: Path, declare: Any) -> None:
    dataset = declare()
    cleaned = clean_csv(tmp_path, dataset, fraud=LABELS)
    assert (cleaned.rejections, cleaned.labels) == ([], None)
    payload = msgspec.json.encode({"card": "c", "when": "2020-01-05T10:00", "fraud": {"state": "pending"}})
    assert clean_payloads(dataset, [payload]).rejections == []
    assert [r.field for r in clean_payloads(dataset, [payload], read_labels=True).rejections] == ["fraud"]


def test_whole_numbers_in_parquet_are_categories_keys_and_ids(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_parquet(tmp_path, declare(), place=[5411, 5541], card=[1, 2], id=[123, 124])
    assert cleaned.rejections == []
    assert cleaned.columns["place"].tolist() == ["5411", "5541"]
    assert cleaned.transaction_ids == ["123", "124"]


def test_floats_that_a_missing_value_made_of_whole_numbers_are_the_same_texts(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_parquet(tmp_path, declare(), place=[5411.0, None], id=[123.0, None])
    assert cleaned.columns["place"].tolist() == ["5411", None]
    assert cleaned.transaction_ids == ["123", None]
    assert decision_id("123") == decision_id(str(cleaned.transaction_ids[0]))


def test_nan_is_missing_in_every_role(tmp_path: Path, declare: Any) -> None:
    nan = pa.array([float("nan"), 7.0])
    cleaned = clean_parquet(tmp_path, declare(), amount=nan, place=nan, id=nan)
    assert np.isnan(cleaned.columns["amount"]).tolist() == [True, False]
    assert (cleaned.columns["place"].tolist(), cleaned.transaction_ids) == ([None, "7"], [None, "7"])
    (rejection,) = clean_parquet(tmp_path, declare(), card=nan).rejections
    assert (rejection.row, rejection.code, rejection.field) == (0, "missing-field", "card")


def test_ids_that_spell_missing_are_no_ids(tmp_path: Path, declare: Any) -> None:
    cleaned = clean_csv(tmp_path, declare(), id=("NA", " NA ", "", "7"))
    assert cleaned.transaction_ids == [None, None, None, "7"]


@pytest.mark.parametrize(
    "card", ["17", " x ", 17, 17.0, 17.5, "17.0", "é", "NA", "", " ", True, "True", None, [1], "1E+9", 1e20]
)
def test_the_record_key_is_the_text_of_the_key_that_cleaning_accepts(declare: Any, card: Any) -> None:
    dataset = declare()
    payload = msgspec.json.encode({"card": card, "when": "2020-01-05T10:00"})
    key = message_key(payload, dataset)
    assert (key is None) == bool(clean_payloads(dataset, [payload]).rejections)
    if key is not None:
        again = msgspec.json.encode({"card": key.decode(), "when": "2020-01-05T10:00"})
        assert message_key(again, dataset) == key
