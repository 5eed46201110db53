"""Declared columns that a file lacks are named, with what looks like them, whatever the container."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.dataset.missing_columns import MissingColumn, refuse_unconsented, similar_names
from schemas.errors import TrainingError
from tests.unit.training.data.test_file_reader import dataset
from training.data.history import read_file

ROW = {"id": "a", "who": "1", "when": "2020-01-05T10:00", "amount": 5}
FULL = {**ROW, "place": "X", "device": {"os": "WEB"}, "fraud": False}


def missing(folder: Path, row: dict[str, object], container: str) -> list[tuple[str, tuple[str, ...]]]:
    path = folder / f"t.{container}"
    if container == "csv":
        cells = [json.dumps(value).replace('"', "'") if isinstance(value, dict) else value for value in row.values()]
        path.write_text(",".join(row) + "\n" + ",".join(map(str, cells)) + "\n")
    elif container == "parquet":
        parquet.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    return [
        (column.name, column.similar) for column in read_file(path, dataset(folder), read_labels=True).missing_columns
    ]


@pytest.mark.parametrize("container", ["csv", "parquet", "jsonl"])
def test_missing_columns_are_named_with_what_looks_like_them(tmp_path: Path, container: str) -> None:
    assert missing(tmp_path, FULL, container) == []
    without = {name: value for name, value in FULL.items() if name not in ("place", "device")}
    assert missing(tmp_path, without | {"Pláce ": "X"}, container) == [("place", ("Pláce ",)), ("device", ())]
    assert missing(tmp_path, FULL | {"device": {"OS": "WEB"}}, container) == [("device.os", ("device.OS",))]


@pytest.mark.parametrize("container", ["csv", "parquet", "jsonl"])
def test_an_absent_id_or_label_is_named_only_if_something_looks_like_it(tmp_path: Path, container: str) -> None:
    without = {name: value for name, value in FULL.items() if name not in ("id", "fraud")}
    assert missing(tmp_path, without, container) == []
    assert missing(tmp_path, without | {"ID": "a"}, container) == [("id", ("ID",))]


def test_a_required_column_that_no_json_line_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"who":"1","when":"2020-01-05","Amount":5}\n')
    with pytest.raises(TrainingError, match="no column amount; 'Amount' looks like amount"):
        read_file(tmp_path / "t.jsonl", dataset(tmp_path), read_labels=True)


@pytest.mark.parametrize(
    ("name", "candidate"),
    [("amount", "AMOUNT"), ("amount", "amuont"), ("card_holder", "Card-Holder"), ("género", "genero"), ("id", "I D")],
)
def test_names_that_differ_in_spelling_are_similar(name: str, candidate: str) -> None:
    assert similar_names(name, ["other", candidate]) == (candidate,)


@pytest.mark.parametrize(("name", "candidate"), [("amount", "account"), ("id", "hour"), ("date", "rate_of_day")])
def test_other_words_are_not_similar(name: str, candidate: str) -> None:
    assert similar_names(name, [candidate]) == ()


def test_training_without_an_optional_column_needs_consent(tmp_path: Path) -> None:
    place, entry = MissingColumn(name="place", similar=("Place",)), MissingColumn(name="device.os", similar=())
    declared = dataset(tmp_path)
    with pytest.raises(TrainingError) as refused:
        refuse_unconsented(declared, "h.csv", [place, entry], ["device.os"])
    assert str(refused.value).startswith("h.csv: no column place; 'Place' looks like place; correct the name")
    assert str(refused.value).endswith("--allow-missing place")
    refuse_unconsented(declared, "h.csv", [place, entry], ["device.os", "place"])
    refuse_unconsented(declared, "h.csv", [MissingColumn(name="id", similar=("ID",))], [])


@pytest.mark.parametrize("name", ["plaec", "amount", "id"])
def test_consent_names_an_optional_field(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingError, match=f"--allow-missing {name}: .* no optional field of this name"):
        refuse_unconsented(dataset(tmp_path), "h.csv", [], [name])
