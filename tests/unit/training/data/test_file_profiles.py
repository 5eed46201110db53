"""Profile columns of a file: the bits of the worker, and what is remembered for which row."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Columns, Matrix
from scoring.input.cleaning import CleanedBatch, clean_columns, clean_payloads
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.profile_inputs import hashes
from scoring.profiles.shared.label_store import LabelInputs
from tests.helpers.traffic.profiled_dataset import profiled_dataset
from training.data.file_profiles import ProfileFiles
from training.data.history import read_file, read_history

DECLARATION = """
name = "sales"
key = "card"
transaction_id = "id"
label = "fraud"
features = ["amount"]
[event_time]
date = "at"
formats = ["%Y-%m-%d"]
[[fields]]
name = "amount"
kind = "number"
[[fields]]
name = "shop"
kind = "category"
[[profiles]]
entity = "card"
windows = ["1h", "7d"]
features = ["count", "mean(amount)", "std(amount)", "ratio_max(amount)", "distinct(shop)", "seconds_since_last", "is_new(shop)"]
[[profiles]]
entity = "shop"
windows = ["1h", "1d"]
features = ["count", "max(amount)", "zscore(amount)"]
[[profiles]]
entity = "shop"
windows = ["3d", "7d"]
label_delay = "1d"
features = ["labelled_count", "fraud_rate", "frauds_in_row", "last_label", "seconds_since_fraud"]
"""  # noqa: E501
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("declaration") / "sales.toml"
    path.write_text(DECLARATION)
    return load_dataset(str(path))


def sales(n: int, seed: int = 3, days: int = 10) -> list[Row]:
    """Sales in order of their event times, with ties, missing values and repeated ids."""
    rng = np.random.default_rng(seed)
    minutes = np.sort(rng.integers(0, days * 1440 // 7, n)) * 7
    return [
        {
            "id": f"t{i - 1 if i % 40 == 39 else i}",
            "card": f"c{rng.integers(0, 9)}",
            "shop": f"s{rng.integers(0, 4)}" if rng.random() < 0.9 else "",
            "amount": f"{rng.lognormal(3, 1):.2f}" if rng.random() < 0.9 else "",
            "at": f"{FIRST + timedelta(minutes=int(minute)):%Y-%m-%dT%H:%MZ}",
            "fraud": str(rng.choice(["true", "false", ""], p=[0.2, 0.6, 0.2])),
        }
        for i, minute in enumerate(minutes.tolist())
    ]


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def cleaned(dataset: Dataset, rows: list[Row]) -> CleanedBatch:
    return clean_columns(dataset, {name: [row[name] for row in rows] for name in rows[0]}, read_labels=True)


def matrix(dataset: Dataset, columns: Any) -> Matrix:
    return np.column_stack([columns[f.name] for f in dataset.profile_features]).astype(np.float32)


def late_labels(dataset: Dataset, rows: list[Row]) -> LabelInputs:
    """The labels of the rows as a worker gets them, each a day after the sale."""
    batch = cleaned(dataset, rows)
    assert batch.labels is not None
    known = np.flatnonzero(~np.isnan(batch.labels))
    return LabelInputs(
        entities={name: hashes([rows[i][name] or None for i in known]) for name in ("card", "shop")},
        event_time_ms=batch.event_time_ms[known],
        reported_at_ms=batch.event_time_ms[known] + DAY_MS,
        fraud=batch.labels[known] == 1,
        ids=hashes([rows[i]["id"] for i in known]),
    )


@pytest.mark.parametrize("size", [1, 7, 300], ids="batches of {}".format)
def test_a_file_has_the_bits_that_a_worker_computes(dataset: Dataset, size: int) -> None:
    rows = sales(600)
    in_file = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    by_time = np.argsort(cleaned(dataset, in_file).event_time_ms, kind="stable")
    streamed = [in_file[i] for i in by_time]
    fold = ProfileFold(dataset, [0])
    fold.assign(0, PartitionProfiles(fold.plan))
    fold.shared.add_labels(late_labels(dataset, streamed))
    found = []
    for begin in range(0, len(streamed), size):
        batch = clean_payloads(dataset, [msgspec.json.encode(row) for row in streamed[begin : begin + size]])
        offsets = np.arange(begin, begin + batch.n)
        found.append(fold.features(batch, np.zeros(batch.n, np.intp), offsets).values)
    of_file = matrix(dataset, profile_columns(dataset, cleaned(dataset, in_file)))
    assert of_file[by_time].tobytes() == np.concatenate(found).tobytes()
    seen = [len(np.unique(column[~np.isnan(column)])) for column in of_file.T]
    assert min(seen) > 1, seen  # no feature is constant


def test_the_real_file_has_the_windows_of_pandas(real_csv: Path, tmp_path: Path) -> None:
    profiles = """
[[profiles]]
entity = "ID_USER"
windows = ["12h", "7d"]
features = ["count", "mean(monto)", "max(monto)"]
"""
    declared = profiled_dataset(tmp_path, profiles)
    batch = read_file(real_csv, declared, read_labels=True).cleaned
    found = profile_columns(declared, batch)
    # Its event times are whole hours, so the tail of each window is exact.
    amounts = batch.columns["monto"].astype(np.float32).astype(np.float64)
    table = pd.DataFrame({"card": batch.keys, "amount": amounts, "row": np.arange(len(amounts))})
    table.index = pd.to_datetime(batch.event_time_ms, unit="ms")
    table = table.sort_index(kind="stable")
    rows = np.concatenate([group["row"].to_numpy() for _, group in table.groupby("card")])  # as `rolling` orders them
    for window, duration in (("12h", "12h"), ("7d", "7D")):
        rolling = table.groupby("card").rolling(duration, closed="right")
        before = rolling["amount"].apply(lambda x: np.nanmean(x[:-1]) if has_values(x[:-1]) else np.nan, raw=True)
        top = rolling["amount"].apply(lambda x: np.nanmax(x[:-1]) if has_values(x[:-1]) else np.nan, raw=True)
        assert np.array_equal(found[f"id_user_count_{window}"][rows], rolling["row"].count().to_numpy() - 1)
        assert np.allclose(found[f"id_user_mean_monto_{window}"][rows], before, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert np.array_equal(found[f"id_user_max_monto_{window}"][rows], top, equal_nan=True)
        assert found[f"id_user_count_{window}"].max() > 1


def profile_columns(dataset: Dataset, batch: CleanedBatch) -> Columns:
    return ProfileFiles().columns_of_rows(batch, dataset, None).columns


def has_values(window: Any) -> bool:
    return bool((~np.isnan(window)).any())


def test_unlabelled_and_earlier_rows_are_remembered_and_isolated_ones_are_not(dataset: Dataset, tmp_path: Path) -> None:
    rows = [row | {"fraud": "true" if i % 9 == 0 else "false" if i % 2 else ""} for i, row in enumerate(sales(900))]
    expected = profile_columns(dataset, cleaned(dataset, rows))
    poison = rows[5] | {"at": "2031-01-01T00:00Z", "id": "far"}
    path = write(tmp_path / "h.csv", [rows[0], poison, *rows[1:]])
    from_ms = int(FIRST.timestamp() * 1000) + 4 * DAY_MS
    history = read_history(path, dataset, from_ms=from_ms)
    times = cleaned(dataset, rows).event_time_ms
    used = [i for i, row in enumerate(rows) if row["fraud"] and times[i] >= from_ms]
    assert len(history.fraud) == len(used) > 200
    assert matrix(dataset, history.columns).tobytes() == matrix(dataset, expected)[used].tobytes()


def test_a_file_continues_the_profiles_of_its_history(dataset: Dataset, tmp_path: Path) -> None:
    rows = sales(900)
    rows[700]["fraud"] = "perhaps"  # this row has no label; it is a transaction all the same
    expected = matrix(
        dataset, profile_columns(dataset, cleaned(dataset, [*rows[:700], rows[700] | {"fraud": ""}, *rows[701:]]))
    )
    path = write(tmp_path / "recent.csv", rows[600:])
    found, counts = ProfileFiles(write(tmp_path / "h.csv", rows[:600])).columns_of_file(path, dataset)
    assert counts is None
    assert found.values.tobytes() == expected[600:].tobytes()
    without, _ = ProfileFiles().columns_of_file(path, dataset)
    assert np.any(without.values[:50] != expected[600:650])


#  day   0         1         2         3         4
#        sale, fraud         delay over
#                                      reported
#                   asked               asked       a label counts only when both are past
def test_a_late_label_counts_from_its_report_on(dataset: Dataset, tmp_path: Path) -> None:
    def at(days: float) -> Row:
        time = f"{FIRST + timedelta(days=days):%Y-%m-%dT%H:%MZ}"
        return {"id": f"d{days}", "card": "c", "shop": "s", "amount": "1", "at": time, "fraud": ""}

    path = write(tmp_path / "h.csv", [at(0) | {"fraud": "false"}, at(2.5), at(3), at(3.5)])
    report = {"transaction_id": "d0", "fraud": "true", "reported_at": "2024-01-04T00:00:00Z"}
    late = write(tmp_path / "late.csv", [report, report | {"transaction_id": "never"}])
    found, counts = ProfileFiles(labels=late).columns_of_file(path, dataset)
    assert found.values[:, found.names.index("shop_labelled_count_7d")].tolist() == [0, 0, 1, 1]
    assert found.values[-1, found.names.index("shop_last_label")] == 1
    assert counts is not None
    assert (counts.labels, counts.unknown) == (2, 1)


def test_a_history_without_profiles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text(DECLARATION.partition("[[profiles]]")[0])
    path = write(tmp_path / "h.csv", sales(3))
    plain = load_dataset(str(tmp_path / "plain.toml"))
    with pytest.raises(TrainingError, match=r"--history .*h\.csv: the data set 'sales' declares no profiles"):
        ProfileFiles(path).columns_of_file(path, plain)
    assert ProfileFiles().columns_of_file(path, plain)[0].names == ()
