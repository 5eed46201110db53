"""Drafts of hostile files: what a value decides is declared, what none decides is doubted or left undecided."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from schemas.dataset.declaration import load_dataset
from schemas.errors import SchemaError
from tamiz.main import app
from training.declaration.draft import Draft, draft_declaration
from training.declaration.draft_toml import render_draft
from training.declaration.sample import SPREAD_ROWS, read_sample

N = 60
BASE: dict[str, Callable[[int], object]] = {
    "id": lambda n: f"t{n}",
    "user": lambda n: f"u{n % 7}",
    "when": lambda n: f"2020-01-{1 + n % 28:02}T10:00:00",
    "amount": lambda n: f"{n}.5",
    "place": lambda n: "AB"[n % 2],
    "fraud": lambda n: int(n % 6 == 0),
}


def write(folder: Path, *, delimiter: str = ",", encoding: str = "utf-8", **columns: Callable[[int], object]) -> Path:
    """A file of BASE's columns; `columns` replaces or adds some."""
    made = BASE | columns
    lines = [delimiter.join(made), *(delimiter.join(str(make(n)) for make in made.values()) for n in range(N))]
    (folder / "in.csv").write_bytes("\n".join(lines).encode(encoding))
    return folder / "in.csv"


def draft(path: Path) -> tuple[Draft, dict[str, Any]]:
    """The draft of a file, and the values of its TOML."""
    found = draft_declaration("small", read_sample(path))
    return found, tomllib.loads(render_draft(found, path.name, "small.toml"))


def fields(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in values["fields"]}


def doubts(found: Draft, about: str) -> str:
    return " / ".join(doubt for subject, doubt in found.doubts() if subject == about)


def test_a_plain_file_is_declared_with_one_doubt(tmp_path: Path) -> None:
    found, values = draft(write(tmp_path))
    assert [about for about, _ in found.doubts()] == ["event_time"]
    assert "UTC is assumed" in doubts(found, "event_time")
    assert (values["key"], values["transaction_id"], values["label"], values["amount"]) == (
        "user",
        "id",
        "fraud",
        "amount",
    )
    assert values["features"] == ["amount", "place", "hour", "day_of_week"]


@pytest.mark.parametrize(
    ("amounts", "declared"),
    [
        pytest.param(lambda n: f"1.{n:03},50", {"decimal": ",", "thousands": "."}, id="both marks"),
        pytest.param(lambda n: f"1 {n:03},50", {"decimal": ",", "thousands": " "}, id="space"),
        pytest.param(lambda n: f"${n}.50", {"decimal": ".", "currency": ["$"]}, id="currency"),
        pytest.param(lambda n: f"{n}.5 %", {"decimal": ".", "percent": "points"}, id="percent"),
    ],
)
def test_marks_that_texts_decide_are_declared(
    amounts: Callable[[int], object], declared: dict[str, Any], tmp_path: Path
) -> None:
    _, values = draft(write(tmp_path, delimiter=";", amount=amounts))
    of_field = {key: value for key, value in fields(values)["amount"].items() if key not in ("name", "kind")}
    assert {"decimal": values["decimal"], **of_field} == declared


def test_a_mark_that_no_text_decides_is_left_undecided_and_refused(tmp_path: Path) -> None:
    found, values = draft(write(tmp_path, delimiter=";", amount=lambda n: f"{1 + n}.080"))
    assert fields(values)["amount"]["decimal"] == "<undecided>"
    assert "1.080 or 1080" in doubts(found, "amount")
    (tmp_path / "small.toml").write_text(render_draft(found, "in.csv", "small.toml"))
    with pytest.raises(SchemaError, match=r"not decided: fields 'amount'\.decimal"):
        load_dataset(str(tmp_path / "small.toml"))


def test_other_columns_decide_an_ambiguous_mark_with_a_doubt(tmp_path: Path) -> None:
    path = write(tmp_path, delimiter=";", amount=lambda n: f"{1 + n}.080", rate=lambda n: f"{n},25")
    found, values = draft(path)
    assert (values["decimal"], fields(values)["amount"]["thousands"]) == (",", ".")
    assert "other columns" in doubts(found, "amount")


@pytest.mark.parametrize(
    ("days", "formats"),
    [
        pytest.param(lambda n: f"{1 + n % 28:02}/02/2020", ["%d/%m/%Y"], id="a day above 12"),
        pytest.param(lambda n: f"{1 + n % 12:02}/02/2020", ["<undecided>"], id="none above 12"),
    ],
)
def test_the_order_of_day_and_month_is_decided_or_left_to_a_person(
    days: Callable[[int], object], formats: list[str], tmp_path: Path
) -> None:
    found, values = draft(write(tmp_path, when=days, h=lambda n: n % 24))
    assert (values["event_time"]["formats"], values["event_time"]["hour"]) == (formats, "h")
    assert list(found.undecided()) == (["event_time"] if formats == ["<undecided>"] else [])


@pytest.mark.parametrize(
    ("times", "formats"),
    [
        pytest.param(lambda n: 1_578_218_400 + n, ["epoch_s"], id="seconds"),
        pytest.param(lambda n: 1_578_218_400_000 + n, ["epoch_ms"], id="milliseconds"),
        pytest.param(lambda n: 43_835.5 + n, ["excel"], id="excel"),
        pytest.param(lambda n: f"{1 + n % 28:02}/01/2020 10:00:00 +0200", ["%d/%m/%Y %H:%M:%S %z"], id="offset"),
    ],
)
def test_epochs_and_offsets_are_declared(times: Callable[[int], object], formats: list[str], tmp_path: Path) -> None:
    _, values = draft(write(tmp_path, when=times))
    assert values["event_time"]["formats"] == formats
    assert ("zone" in values["event_time"]) == (formats == ["excel"])  # the others state it


@pytest.mark.parametrize(
    ("labels", "declared"),
    [
        pytest.param(lambda n: ["No", "Yes"][n % 6 == 0], None, id="yes and no"),
        pytest.param(lambda n: ["0.0", "1.0"][n % 6 == 0], None, id="floats"),
        pytest.param(lambda n: ["FALSO", "VERDADERO"][n % 6 == 0], None, id="spanish"),
        pytest.param(
            lambda n: "pending" if n == 1 else ["ok", "fraud"][n % 6 == 0],
            {"fraud": ["fraud"], "legitimate": ["ok"], "unknown": ["pending"]},
            id="words",
        ),
    ],
)
def test_values_of_the_label_are_declared(
    labels: Callable[[int], object], declared: dict[str, Any] | None, tmp_path: Path
) -> None:
    _, values = draft(write(tmp_path, fraud=labels))
    assert (values["label"], values.get("label_values")) == ("fraud", declared)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        pytest.param("copy", lambda n: "NY"[n % 6 == 0], "equal to the label", id="equal"),
        pytest.param("chargeback_days", lambda n: n % 5, "known only afterwards", id="afterwards"),
        pytest.param("balance_after", lambda n: f"{n}.25", "known only afterwards", id="balance"),
    ],
)
def test_a_column_that_contains_the_label_is_no_feature(
    name: str, make: Callable[[int], object], reason: str, tmp_path: Path
) -> None:
    found, values = draft(write(tmp_path, **{name: make}))
    assert name not in values["features"]
    assert reason in doubts(found, name)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        pytest.param("country", lambda n: "MX", "constant", id="constant"),
        pytest.param("note", lambda n: "", "missing", id="empty"),
        pytest.param("comment", lambda n: f"text {n % 59 * 7919}", None, id="few rows"),
        pytest.param("last_name", lambda n: ["Ruiz", "Li"][n % 2], "personal", id="name"),
        pytest.param("birthday", lambda n: f"1980-01-{1 + n % 28:02}", "a date", id="date"),
        pytest.param("hour", lambda n: n % 24, "computed", id="derived name"),
    ],
)
def test_a_column_that_no_model_can_use_is_left_out_with_the_reason(
    name: str, make: Callable[[int], object], reason: str | None, tmp_path: Path
) -> None:
    found, _ = draft(write(tmp_path, **{name: make}))
    left_out = {field.name: field.reason for field in found.left_out}
    assert (reason or "") in left_out.get(name, "")
    assert (name in left_out) == (reason is not None)


def test_codes_with_leading_zeros_are_categories(tmp_path: Path) -> None:
    _, values = draft(write(tmp_path, area=lambda n: f"0{n % 9}", mcc=lambda n: 5411 + n % 3, size=lambda n: n % 9))
    kinds = {name: field["kind"] for name, field in fields(values).items()}
    assert (kinds["area"], kinds["mcc"], kinds["size"]) == ("category", "category", "number")


def test_a_mapping_has_an_entry_for_each_key(tmp_path: Path) -> None:
    path = write(tmp_path, delimiter="|", device=lambda n: f"{{'os': '{'AW'[n % 2]}'; 'score': {n % 5}; 'one': 1}}")
    _, values = draft(path)
    device = fields(values)["device"]
    assert [(entry["key"], entry["kind"]) for entry in device["entries"]] == [("os", "category"), ("score", "number")]
    assert "device_os" in values["features"]


def test_spellings_of_missing_are_declared_and_doubted_where_they_may_be_levels(tmp_path: Path) -> None:
    path = write(
        tmp_path, amount=lambda n: "N/A" if n == 3 else "?" if n == 4 else f"{n}.5", place=lambda n: ["NA", "MX"][n % 2]
    )
    found, values = draft(path)
    assert values["missing"] == ["", "N/A", "NA"]
    assert fields(values)["amount"]["missing"] == ["?"]
    assert "is it a level?" in doubts(found, "place")


def test_ids_that_lost_digits_are_doubted(tmp_path: Path) -> None:
    found, _ = draft(write(tmp_path, user=lambda n: f"4.{n % 9}1111E+15"))
    assert "lost digits" in doubts(found, "key")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    _, values = draft(write(tmp_path, encoding="utf-8-sig"))
    assert values["transaction_id"] == "id"


def test_a_hostile_name_stays_within_its_string_and_comment(tmp_path: Path) -> None:
    name = 'x"\\]\u2028=\x7f\x1b[31m'
    found, values = draft(write(tmp_path, **{name: lambda n: n % 5}))
    assert fields(values)[name]["kind"] == "number"
    text = render_draft(found, "a\nb", "c\nd")
    assert "\x1b" not in text
    assert tomllib.loads(text) == values


@pytest.mark.parametrize("container", ["parquet", "jsonl"])
def test_typed_values_have_the_draft_of_their_texts(container: str, tmp_path: Path) -> None:
    rows = [{name: make(n) for name, make in BASE.items()} | {"amount": n + 0.5} for n in range(N)]
    path = tmp_path / f"in.{container}"
    if container == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        import json

        path.write_text("\n".join(map(json.dumps, rows)))
    _, values = draft(path)
    _, texts = draft(write(tmp_path))
    same = ("key", "transaction_id", "label", "amount", "features")
    assert {key: values[key] for key in same} == {key: texts[key] for key in same}
    assert "decimal" not in values
    assert "csv" not in values


def test_a_large_file_is_sampled_from_start_to_end(tmp_path: Path) -> None:
    rows = 3 * SPREAD_ROWS + 10_000
    (tmp_path / "in.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(rows)) + "\n")
    sample = read_sample(tmp_path / "in.csv")
    seen = list(map(int, sample.columns["id"]))
    assert (sample.rows_read, sample.n) == (rows, len(seen))
    assert seen == sorted(set(seen))
    assert seen[:10_000] == list(range(10_000))
    assert len(seen) <= 20_000
    assert rows - seen[-1] < 10


def test_an_existing_declaration_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "small.toml"
    target.write_text("mine")
    done = CliRunner().invoke(app, ["declare", str(write(tmp_path)), "--output", str(target)])
    assert done.exit_code == 1
    assert "exists" in str(done.exception)
    assert target.read_text() == "mine"


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,user\n")
    done = CliRunner().invoke(app, ["declare", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.toml")])
    assert "no rows" in str(done.exception)
    assert not (tmp_path / "out.toml").exists()


def test_a_draft_proposes_profiles_as_comments_that_are_valid_without_the_signs(tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    rows = [f"{n},c{n % 40},shop{n % 7},{n % 90}.5,2020-01-{1 + n % 28:02}T10:00:00Z,{n % 2}" for n in range(400)]
    file.write_text("\n".join(["id,card,merchant,amount,time,fraud", *rows]))
    text = render_draft(draft_declaration("shop", read_sample(file)), "shop.csv", "shop.toml")
    head, tables = text.split("# What an entity did before", 1)
    path = tmp_path / "shop.toml"
    path.write_text(head + "\n".join(line.removeprefix("# ") for line in tables.splitlines()[1:]))
    profiles = load_dataset(str(path)).profiles
    assert [(p.entity, p.kind) for p in profiles] == [("card", "key"), ("merchant", "labels")]
