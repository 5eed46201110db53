"""What a declaration makes of a file."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tamiz.main import app
from training.declaration.declaration_check import DeclarationCheck

DECLARED = """
name = "small"
key = "user"
label = "fraud"
features = ["amount", "place"]
[event_time]
date = "when"
formats = ["%d/%m/%Y"]
[[fields]]
name = "amount"
kind = "number"
decimal = ","
thousands = "."
required = true
[[fields]]
name = "place"
kind = "category"
"""
GOOD = ["a;21/01/2020;1.080,50;X;1", "b;22/01/2020;7;;0", "a;23/01/2020;0,5;Y;0"]


def check(folder: Path, rows: list[str], header: str = "user;when;amount;place;fraud") -> tuple[int, DeclarationCheck]:
    declaration, file = folder / "small.toml", folder / "in.csv"
    declaration.write_text(DECLARED.replace("[event_time]", '[csv]\ndelimiter = ";"\n[event_time]'))
    file.write_text("\n".join([header, *rows]) + "\n")
    done = CliRunner().invoke(app, ["declare", "--check", str(declaration), str(file), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, msgspec.json.decode(done.stdout, type=DeclarationCheck)


def test_each_field_is_summarised_with_raw_and_read_values(tmp_path: Path) -> None:
    code, found = check(tmp_path, GOOD)
    assert (code, found.rows, found.accepted, found.rejected) == (0, 3, 3, 0)
    assert (found.first_event_time, found.last_event_time) == ("2020-01-21T00:00:00Z", "2020-01-23T00:00:00Z")
    assert found.fraud_share == pytest.approx(1 / 3)
    fields = {field.name: field for field in found.fields}
    assert [(e.raw, e.read) for e in fields["amount"].examples] == [("1.080,50", "1080.5"), ("7", "7"), ("0,5", "0.5")]
    assert (fields["amount"].range, fields["place"].range) == ("0.5 to 1080.5", "2 levels")
    assert (fields["place"].read, fields["place"].missing) == (2, 1)
    assert [value.read for value in found.first_rows[0].values] == ["2020-01-21T00:00:00Z", "a", "true", "1080.5", "X"]


def test_a_rejected_row_has_line_code_field_value_and_remedy(tmp_path: Path) -> None:
    code, found = check(tmp_path, [GOOD[0], "b;01/22/2020;7;;0", GOOD[2], "c;d", "a;24/01/2020;$5;Y;0"])
    assert (code, found.codes) == (1, {"not-a-date": 1, "ragged-row": 1, "not-a-number": 1})
    assert [(r.line, r.code, r.field, r.value) for r in found.rejections] == [
        (3, "not-a-date", "when", "01/22/2020"),
        (5, "ragged-row", None, "2 fields"),
        (6, "not-a-number", "amount", "$5"),
    ]
    assert all(r.expected for r in found.rejections)
    assert {field.name: field.rejected for field in found.fields} == {
        "when": 1, "user": 0, "fraud": 0, "amount": 1, "place": 0
    }  # fmt: skip


def test_the_exit_code_is_one_only_if_most_rows_are_rejected(tmp_path: Path) -> None:
    bad = "b;nothing;7;;0"
    assert check(tmp_path, [*GOOD, bad])[0] == 0
    assert check(tmp_path, [GOOD[0], bad, bad])[0] == 1
    assert check(tmp_path, [])[0] == 1


def test_an_absent_column_and_what_looks_like_it_are_named(tmp_path: Path) -> None:
    _, found = check(tmp_path, GOOD, "user;when;amount;Place;fraud")
    assert [(column.name, column.similar) for column in found.absent_columns] == [("place", ("Place",))]


def test_a_file_without_a_required_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="amount"):
        check(tmp_path, GOOD, "user;when;sum;place;fraud")


def test_rejections_are_counted_beyond_those_shown(tmp_path: Path) -> None:
    _, found = check(tmp_path, [f"u{n};never;1;X;0" for n in range(50)])
    assert (found.rejected, len(found.rejections), found.codes) == (50, 20, {"not-a-date": 50})
