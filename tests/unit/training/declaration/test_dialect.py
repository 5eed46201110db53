"""Encoding and delimiter of CSV files."""

from pathlib import Path

import pytest

from training.declaration.dialect import detect_dialect

ROWS = [["id", "where", "amount"], *([str(n), "Mérida", "1080.5"] for n in range(50))]


def text(delimiter: str, rows: list[list[str]] = ROWS) -> str:
    return "".join(delimiter.join(row) + "\r\n" for row in rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_splits_every_record_alike(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "in.csv").write_text(text(delimiter), newline="")
    found = detect_dialect(tmp_path / "in.csv")
    assert (found.delimiter, found.doubts) == (delimiter, ())


def test_decimal_commas_do_not_pass_for_delimiters(tmp_path: Path) -> None:
    rows = [["id", "amount"], *([str(n), f"{n},50"] for n in range(20))]
    (tmp_path / "in.csv").write_text(text(";", rows))
    assert detect_dialect(tmp_path / "in.csv").delimiter == ";"


def test_quoted_delimiters_and_line_breaks_are_text(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('id;note\n1;"a;b\nc"\n2;"d;e"\n')
    found = detect_dialect(tmp_path / "in.csv")
    assert (found.delimiter, found.doubts) == (";", ())


@pytest.mark.parametrize(
    ("encoding", "found", "is_doubtful"),
    [
        ("utf-8", "utf-8", False),
        ("utf-8-sig", "utf-8-sig", False),
        ("utf-16", "utf-16", False),
        ("utf-32", "utf-32", False),
        ("utf-16-le", "utf-16-le", True),
        ("cp1252", "cp1252", True),
    ],
)
def test_the_encoding_is_found_or_doubted(tmp_path: Path, encoding: str, found: str, is_doubtful: bool) -> None:
    (tmp_path / "in.csv").write_bytes(text(";").encode(encoding))
    dialect = detect_dialect(tmp_path / "in.csv")
    assert (dialect.encoding, dialect.delimiter, bool(dialect.doubts)) == (found, ";", is_doubtful)


def test_a_byte_outside_utf8_far_into_the_file_is_seen(tmp_path: Path) -> None:
    rows = [["id", "where"], *([str(n), "x" * 80] for n in range(60_000)), ["1", "M\u00e9rida"]]
    (tmp_path / "in.csv").write_bytes(text(",", rows).encode("cp1252"))
    assert detect_dialect(tmp_path / "in.csv").encoding == "cp1252"


def test_a_file_that_is_no_table_is_doubted(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("only one column\n1\n2\n")
    assert "no delimiter" in detect_dialect(tmp_path / "in.csv").doubts[0]
