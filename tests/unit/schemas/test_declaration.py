"""Declarations of data sets: contradictions are refused, and the error names file and field."""

from pathlib import Path

import pytest

from schemas.dataset.declaration import load_dataset
from schemas.errors import SchemaError

SMALL = """
name = "small"
key = "card"
label = "fraud"
features = ["amount", "hour"]
[event_time]
date = "at"
formats = ["%Y-%m-%d"]
[[fields]]
name = "amount"
kind = "number"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "small.toml"
    path.write_text(text)
    return str(path)


def test_another_data_set_is_another_file_and_no_python(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path, SMALL))
    assert (dataset.name, [f.name for f in dataset.features]) == ("small", ["amount", "hour"])
    assert dataset.field_names == ("card", "fraud", "at", "amount")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param('kind = "number"', 'kind = "amount"', "kind", id="unknown kind"),
        pytest.param('key = "card"', "", "key", id="no key"),
        pytest.param('["amount", "hour"]', '["amount", "colour"]', "'colour'.*no field", id="feature without a field"),
        pytest.param('["amount", "hour"]', '["amount", "amount"]', "'amount'.*twice", id="feature twice"),
        pytest.param('["amount", "hour"]', '["amount", "fraud"]', "'fraud'.*label", id="label among the features"),
        pytest.param('["amount", "hour"]', "[]", "features.*empty", id="no features"),
        pytest.param('kind = "number"', 'kind = "number"\nmin = 2\nmax = 1', "'amount'.*above", id="empty range"),
        pytest.param('kind = "number"', 'kind = "category"\nmin = 2', "'amount'.*min", id="range of a category"),
        pytest.param('kind = "number"', 'kind = "mapping"', "'amount'.*entries", id="mapping without entries"),
        pytest.param('kind = "number"', 'kind = "number"\ncolour = 1', "colour", id="unknown word"),
        pytest.param('name = "amount"', 'name = "at"', "'at'.*role|'amount'.*no field", id="date as a field"),
        pytest.param('name = "amount"', 'name = "hour"', "'hour'.*more than once", id="name of a derived column"),
        pytest.param('key = "card"', 'key = "card"\namount = "at"', "'at'.*number", id="amount that is no number"),
        pytest.param('["%Y-%m-%d"]', "[]", "'at'.*format", id="no date format"),
        pytest.param('name = "small"', "name = ", "not a TOML file", id="no TOML"),
    ],
)
def test_a_contradiction_is_refused_naming_file_and_field(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new))
    with pytest.raises(SchemaError, match=words) as caught:
        load_dataset(path)
    assert "small.toml" in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.toml", "../settings", ""])
def test_a_declaration_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(SchemaError, match=r"no such file|ships with Tamiz"):
        load_dataset(name)


def test_what_is_undecided_is_refused_with_every_place_in_one_line(tmp_path: Path) -> None:
    text = SMALL.replace('["%Y-%m-%d"]', '["<undecided>"]').replace(
        'kind = "number"', 'kind = "number"\ndecimal = "<undecided>"'
    )
    with pytest.raises(SchemaError) as caught:
        load_dataset(write(tmp_path, text))
    assert "not decided: event_time.formats, fields 'amount'.decimal; replace" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_may_have_no_card_holder(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path, SMALL.replace('key = "card"', 'key = ""')))
    assert (dataset.key, dataset.field_names) == (None, ("fraud", "at", "amount"))


def test_a_date_may_be_in_several_fields(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path, SMALL.replace('date = "at"', 'date = ["year", "month", "day"]')))
    assert dataset.event_time.parts == ("year", "month", "day")
    assert dataset.field_names == ("card", "fraud", "year", "month", "day", "amount")


@pytest.mark.parametrize("parts", ['["year", "year"]', "[]"])
def test_a_date_needs_different_fields(tmp_path: Path, parts: str) -> None:
    with pytest.raises(SchemaError, match=r"event_time\.date.*different fields"):
        load_dataset(write(tmp_path, SMALL.replace('date = "at"', f"date = {parts}")))
