"""Files are read as the data set declares them, or refused with what differs and where."""

import codecs
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import SchemaError, TrainingError
from training.data.chunk import Chunk, clean_chunk
from training.data.file_reader import read_chunks
from training.data.history import read_file

DECLARATION = """
name = "small"
key = "who"
transaction_id = "id"
label = "fraud"
missing = ["", "NA"]
features = ["amount", "place", "os", "hour"]
[csv]
encoding = "{encoding}"
[event_time]
date = "when"
formats = ["%Y-%m-%d"]
[[fields]]
name = "amount"
kind = "number"
required = true
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
"""
HEADER = "id,who,when,amount,place"
ROW = "a,1,2020-01-05T10:00,5,X"


def dataset(folder: Path, encoding: str = "utf-8") -> Dataset:
    path = folder / "small.toml"
    path.write_text(DECLARATION.format(encoding=encoding))
    return load_dataset(str(path))


def read(folder: Path, content: str | bytes, encoding: str = "utf-8", name: str = "in.csv") -> Chunk:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    declared = dataset(folder, encoding)
    read_file(path, declared, read_labels=True)  # refuses what a history may not be
    return next(read_chunks(path, declared))


def refusal(folder: Path, content: str | bytes, encoding: str = "utf-8", name: str = "in.csv") -> str:
    with pytest.raises(TrainingError) as refused:
        read(folder, content, encoding, name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "more than one column is named 'amount'" in refusal(tmp_path, f"{HEADER},amount\n{ROW},99\n")
    table = pa.table([["a"], ["1"], ["2020-01-05T10:00"], [5], [6]], names=["id", "who", "when", "amount", "amount"])
    parquet.write_table(table, tmp_path / "t")
    assert "more than one column is named 'amount'" in refusal(tmp_path, (tmp_path / "t").read_bytes())


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        pytest.param(codecs.BOM_UTF8 + f"{HEADER}\n{ROW}\n".encode(), "utf-8", id="utf-8"),
        pytest.param(codecs.BOM_UTF8 + f"{HEADER}\n{ROW}\n".encode(), "UTF8", id="another spelling"),
        pytest.param(codecs.BOM_UTF8 + f"{HEADER}\n{ROW}\n".encode(), "utf-8-sig", id="utf-8-sig"),
        pytest.param(f"{HEADER}\n{ROW}\n".encode(), "utf-8-sig", id="utf-8-sig without a mark"),
        pytest.param(f"{HEADER}\n{ROW}\n".encode("utf-16"), "utf-16", id="utf-16"),
        pytest.param(codecs.BOM_UTF16_LE + f"{HEADER}\n{ROW}\n".encode("utf-16-le"), "utf-16-le", id="utf-16-le"),
        pytest.param(codecs.BOM_UTF32_BE + f"{HEADER}\n{ROW}\n".encode("utf-32-be"), "utf-32", id="utf-32"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, content: bytes, encoding: str) -> None:
    assert read(tmp_path, content, encoding).columns["id"] == ["a"]


@pytest.mark.parametrize(
    ("mark", "encoding", "named"),
    [
        pytest.param(codecs.BOM_UTF8, "latin-1", 'encoding = "utf-8"', id="utf-8 in latin-1"),
        pytest.param(codecs.BOM_UTF16_LE, "utf-8", 'encoding = "utf-16"', id="utf-16 in utf-8"),
        pytest.param(codecs.BOM_UTF32_LE, "utf-16", 'encoding = "utf-32"', id="utf-32 in utf-16"),
    ],
)
def test_a_byte_order_mark_of_another_encoding_is_refused(
    tmp_path: Path, mark: bytes, encoding: str, named: str
) -> None:
    assert named in refusal(tmp_path, mark + f"{HEADER}\n{ROW}\n".encode(), encoding)


def test_json_lines_may_begin_with_the_mark_of_utf8_only(tmp_path: Path) -> None:
    line = json.dumps({"who": "1", "when": "2020-01-05T10:00", "amount": 5}).encode()
    assert read(tmp_path, codecs.BOM_UTF8 + line, name="in.jsonl").columns["amount"] == [5]
    assert "save the file as UTF-8" in refusal(tmp_path, codecs.BOM_UTF16_LE + line, name="in.jsonl")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_than_the_declared_one_is_named(tmp_path: Path, mark: str) -> None:
    content = f"{HEADER}\n{ROW}\n".replace(",", mark)
    assert f"the delimiter seems to be {mark!r}" in refusal(tmp_path, content)


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, f",{HEADER},\n0,{ROW},\n")
    assert list(found.columns) == HEADER.split(",")
    assert found.columns["id"] == ["a"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(f'{HEADER}\n{ROW}\na,1,2020-01-05,5,"X\nb,1\n', "line 3: a quotation mark opens", id="open"),
        pytest.param(f'{HEADER}\n{ROW}\na,1,2020-01-05,5,"X"Y\n', "line 3: ',' expected after '\"'", id="after it"),
        pytest.param(f'{HEADER}\na,1,2020-01-05,5,"X\n\nY"\na,1\n', "line 5 has 2 fields, expected 5", id="short"),
        pytest.param(f"{HEADER}\n{ROW}\na,1,\xff".encode("latin-1"), "line 3: 'utf-8' codec", id="encoding"),
    ],
)
def test_a_damaged_row_is_refused_with_its_line(tmp_path: Path, content: str | bytes, error: str) -> None:
    assert error in refusal(tmp_path, content)


def test_a_missing_required_column_is_refused_with_what_looks_like_it(tmp_path: Path) -> None:
    error = refusal(tmp_path, f"{HEADER.replace('amount', ' Amount ')}\n{ROW}\n")
    assert "no column amount; ' Amount ' looks like amount" in error


def test_each_row_has_its_line_though_fields_hold_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f'{HEADER}\n\n{ROW}\na,1,2020-01-05,5,"X\n\nY"\nb,1\n{ROW}\n')
    chunks = list(read_chunks(tmp_path / "in.csv", dataset(tmp_path), size=2))
    assert [line for chunk in chunks for line in chunk.lines or ()] == [3, 4, 8]
    assert [row for chunk in chunks for row in chunk.rows] == [0, 1, 3]
    assert [(u.row, u.line, u.fields) for chunk in chunks for u in chunk.unreadable] == [(2, 7, ["b", "1"])]


def test_json_lines_are_decoded_as_payloads_are(tmp_path: Path) -> None:
    good = '{"who":"1","when":"2020-01-05T10:00","amount":5,"place":"X","more":1}'
    lines = [good, "", "[1]", '{"who":1,"who":2}', "{", '"' + "x" * 70_000, good]
    found = read(tmp_path, "\r\n".join(lines), name="in.NDJSON")
    assert (found.rows, found.lines, found.columns["amount"]) == ([0, 6], [1, 7], [5, 5])
    cleaned = clean_chunk(dataset(tmp_path), found)
    assert (cleaned.n, cleaned.rows.tolist()) == (7, [0, 6])
    assert [(r.row, r.code) for r in cleaned.rejections] == [
        (1, "empty"),
        (2, "not-an-object"),
        (3, "duplicate-key"),
        (4, "not-json"),
        (5, "too-large"),
    ]


@pytest.mark.parametrize("encoding", ["utf-9", "base64"])
def test_an_unknown_encoding_is_a_fault_of_the_declaration(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(SchemaError, match=r"csv\.encoding"):
        dataset(tmp_path, encoding)


def test_a_parquet_column_that_nobody_can_read_is_refused_with_its_type(tmp_path: Path) -> None:
    columns = {"who": ["1"], "when": ["2020-01-05"], "amount": [5]}
    times = pa.array([1], pa.time64("us"))
    parquet.write_table(pa.table(columns | {"note": times}), tmp_path / "ignored")
    assert "note" not in next(read_chunks(tmp_path / "ignored", dataset(tmp_path))).columns
    parquet.write_table(pa.table(columns | {"place": times}), tmp_path / "refused")
    with pytest.raises(TrainingError, match=r"the column 'place' has the type time64\[us\], which cannot be read"):
        read_file(tmp_path / "refused", dataset(tmp_path), read_labels=True)


def test_dictionary_columns_and_maps_of_parquet_are_plain_values(tmp_path: Path) -> None:
    device = pa.array([[("os", "WEB")], None, [("os", "A"), ("os", "B")]], pa.map_(pa.string(), pa.string()))
    table = pa.table(
        {
            "who": ["1"] * 3,
            "when": ["2020-01-05"] * 3,
            "amount": [5.0, None, 7.5],
            "place": pa.array(["X", "Y", "X"]).dictionary_encode(),
            "device": device,
        }
    )
    parquet.write_table(table, tmp_path / "in")
    found = next(read_chunks(tmp_path / "in", dataset(tmp_path))).columns
    assert found["place"] == ["X", "Y", "X"]
    assert found["device"] == [{"os": "WEB"}, None, [("os", "A"), ("os", "B")]]
