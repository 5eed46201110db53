"""Files of late labels, and the range of event times to train on."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.profiles.profile_inputs import hashes
from training.data.history import read_history
from training.data.label_file import read_labels

DECLARATION = """
name = "sales"
key = "card"
transaction_id = "TX"
label = "was_fraud"
features = ["amount"]
[label_values]
fraud = ["F"]
legitimate = ["OK"]
[csv]
delimiter = ";"
[event_time]
date = "at"
formats = ["%d/%m/%Y %H:%M"]
zone = "Europe/Madrid"
[[fields]]
name = "amount"
kind = "number"
"""
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
N = 400  # one transaction an hour


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "sales.toml").write_text(DECLARATION)
    return load_dataset(str(tmp_path / "sales.toml"))


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the kind of file that the name says."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    return path


def sales(folder: Path, *, labels: bool = True) -> Path:
    rows = [
        {"TX": f"t{i}", "card": i % 7, "amount": i, "at": f"{FIRST + timedelta(hours=i):%Y-%m-%dT%H:%MZ}"}
        | ({"was_fraud": "F" if i % 10 == 0 else "OK"} if labels else {})
        for i in range(N)
    ]
    return table(folder / "sales.csv", rows)


def report(i: int, fraud: str, day: int) -> dict[str, Any]:
    return {"transaction_id": f"t{i}", "fraud": fraud, "reported_at": f"{day:02}/02/2024 12:00"}


@pytest.mark.parametrize("name", ["late.csv", "late.parquet", "late.jsonl"])
def test_labels_are_read_in_the_formats_of_the_data_set(tmp_path: Path, dataset: Dataset, name: str) -> None:
    late = [report(1, "F", 3), report(2, "OK", 4), report(3, "perhaps", 5), {**report(4, "F", 5), "reported_at": ""}]
    found = read_labels(table(tmp_path / name, late), dataset)
    assert found.ids.tolist() == hashes(["t1", "t2"]).tolist()
    assert found.fraud.tolist() == [1, 0]
    at_eleven = int(datetime(2024, 2, 3, 11, tzinfo=UTC).timestamp() * 1000)  # noon in Madrid
    assert found.reported_at_ms.tolist() == [at_eleven, at_eleven + DAY_MS]
    assert found.rejected == 2
    assert "'perhaps' is not" in str(found.commonest_rejection)


def test_labels_may_have_the_names_of_the_data_set(tmp_path: Path, dataset: Dataset) -> None:
    late = [{"TX": "t1", "was_fraud": "F", "reported_at": "2024-02-03T12:00:00Z"}]
    assert len(read_labels(table(tmp_path / "late.csv", late), dataset).ids) == 1


def test_the_last_reported_label_holds_and_others_keep_their_own(tmp_path: Path, dataset: Dataset) -> None:
    late = [report(1, "OK", 9), report(1, "F", 3), report(2, "F", 3), report(2, "F", 5), report(999, "F", 5)]
    history = read_history(sales(tmp_path), dataset, labels=table(tmp_path / "late.csv", late))
    assert history.fraud[:4].tolist() == [1, 0, 1, 0]
    assert history.late_labels is not None
    assert (history.late_labels.labels, history.late_labels.unknown) == (5, 1)
    without = read_history(sales(tmp_path), dataset)
    assert without.late_labels is None
    assert np.flatnonzero(history.fraud != without.fraud).tolist() == [2]
    assert history.sha256 != without.sha256


def test_a_file_without_label_column_is_labelled_by_the_file_of_labels(tmp_path: Path, dataset: Dataset) -> None:
    late = [report(i, "F" if i % 5 == 0 else "OK", 3) for i in range(300)]
    history = read_history(sales(tmp_path, labels=False), dataset, labels=table(tmp_path / "late.csv", late))
    assert (len(history.fraud), int(history.fraud.sum()), history.unlabelled) == (300, 60, 100)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "t1", "fraud": "F"}], "no column transaction_id, reported_at; .* transaction_id or TX, fraud or was_"),
        ([{"transaction_id": "t1", "fraud": "F", "reported_at": "soon"}], "1 of 1 rows are rejected, most for .*soon"),
        ([{"transaction_id": "", "fraud": "F", "reported_at": "2024-02-03"}], "without transaction_id or fraud"),
    ],
    ids=["columns", "time", "id"],
)
def test_a_file_that_holds_no_labels_is_refused(
    tmp_path: Path, dataset: Dataset, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as refused:
        read_labels(table(tmp_path / "late.csv", rows), dataset)
    assert "\n" not in str(refused.value)


def test_labels_need_a_declared_transaction_id(tmp_path: Path) -> None:
    (tmp_path / "sales.toml").write_text(DECLARATION.replace('transaction_id = "TX"', ""))
    with pytest.raises(TrainingError, match="'sales' declares no transaction_id"):
        read_labels(table(tmp_path / "late.csv", [report(1, "F", 3)]), load_dataset(str(tmp_path / "sales.toml")))


#  hour   0 ......... 48 ......... 360 ...... 400
#               from [             ) until
def test_only_rows_in_the_time_range_are_used(tmp_path: Path, dataset: Dataset) -> None:
    path = sales(tmp_path)
    lines = path.read_text().splitlines()
    lines[10] = lines[10].replace("Z", "?")  # before the range
    lines[100] = lines[100].replace("Z", "?")  # in the range
    path.write_text("\n".join(lines))
    first_ms = int(FIRST.timestamp() * 1000)
    from_ms, until_ms = first_ms + 2 * DAY_MS, first_ms + 15 * DAY_MS
    history = read_history(path, dataset, 1 * DAY_MS, from_ms=from_ms, until_ms=until_ms)
    assert (history.rows, history.rejected, history.outside_range) == (312, {"not-a-date": 1}, 87)
    assert (history.time_range.first_ms, history.time_range.last_ms) == (from_ms, until_ms - DAY_MS // 24)
    assert history.event_time_ms.max() == until_ms - DAY_MS - DAY_MS // 24  # labels of the last day are not final
    assert history.unlabelled == 24
    assert (history.from_ms, history.until_ms) == (from_ms, until_ms)
    with pytest.raises(TrainingError, match=r"no valid row lies in the time range; .* 2024-01-01 00:00 to .*--until"):
        read_history(path, dataset, until_ms=first_ms)
