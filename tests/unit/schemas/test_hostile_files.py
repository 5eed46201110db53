"""Files with arbitrary content give a valid value or one readable error, never another exception."""

import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.reference import load_reference
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import ConfigError, ModelIncompatibleError, SchemaError
from schemas.json_codec import decode
from schemas.records import Label, ModelEvent, PaneSnapshot, RetrainRequest
from scoring.bundle.manifest import BASELINE_FILE, MANIFEST_FILE, read_manifest, write_manifest
from tests.unit.schemas.test_declaration import SMALL

hostile = hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = st.sampled_from([name.upper() for name in Settings.__struct_fields__])
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
VALUES = WORDS | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["", "true", "x" * 10_000, "/", "~"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
RECORDS: tuple[type[msgspec.Struct], ...] = (Label, ModelEvent, RetrainRequest, PaneSnapshot)


def outcome(read: Callable[[], object], refusal: type[Exception]) -> object:
    """What was read, or how it was refused; any other exception fails the test."""
    try:
        return read()
    except refusal as error:
        return error


def one_line(found: object) -> bool:
    return not isinstance(found, Exception) or (bool(str(found)) and "\n" not in str(found))


@hostile
@given(environ=st.dictionaries(NAMES.map("TAMIZ_{}".format), VALUES, max_size=4))
def test_any_environment_gives_settings_or_one_line(environ: dict[str, str]) -> None:
    found = outcome(lambda: load(environ), ConfigError)
    assert isinstance(found, Settings | ConfigError)
    assert one_line(found), found


@hostile
@given(content=st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
def test_any_file_of_settings_gives_settings_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tamiz.toml"
    path.write_bytes(content)
    found = outcome(lambda: load({"TAMIZ_CONFIG": str(path)}), ConfigError)
    assert isinstance(found, Settings | ConfigError)
    assert one_line(found), found


@hostile
@given(line=st.integers(0, SMALL.count("\n")), put=WORDS | st.sampled_from(["[[fields]]", "key = 1", "[x]"]))
def test_any_line_of_a_declaration_may_be_wrong(tmp_path: Path, line: int, put: str) -> None:
    lines = SMALL.splitlines()
    lines[line : line + 1] = [put]
    path = tmp_path / "small.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = outcome(lambda: load_dataset(str(path)), SchemaError)
    assert isinstance(found, Dataset) or str(path) in str(found)


@hostile
@given(type_=st.sampled_from(RECORDS), value=st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_any_bytes_on_a_topic_are_a_record_or_a_decode_error(type_: type[Any], value: bytes) -> None:
    assert isinstance(outcome(lambda: decode(value, type_), msgspec.DecodeError), type_ | msgspec.DecodeError)


@hostile
@given(data=st.data())
def test_any_record_with_a_field_changed_is_a_record_or_a_decode_error(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(RECORDS))
    fields = {f.encode_name: data.draw(JSON) for f in msgspec.structs.fields(type_)}
    value = msgspec.json.encode(fields)
    assert isinstance(outcome(lambda: decode(value, type_), msgspec.DecodeError), type_ | msgspec.DecodeError)


@hostile
@given(
    name=st.sampled_from([MANIFEST_FILE, BASELINE_FILE]),
    at=st.floats(0, 1, exclude_max=True),
    put=st.binary(min_size=0, max_size=4),
    cut=st.booleans(),
)
@example(name=MANIFEST_FILE, at=0.29, put=b"\x80", cut=False)  # no UTF-8 in the middle of a name
def test_a_bundle_damaged_anywhere_loads_or_is_refused_in_one_line(
    champion_bundle: Path, tmp_path: Path, name: str, at: float, put: bytes, cut: bool
) -> None:
    for file in champion_bundle.iterdir():
        content = file.read_bytes()
        if file.name == name:
            place = int(at * len(content))
            content = content[:place] + put + (b"" if cut else content[place + len(put) :])
        (tmp_path / file.name).write_bytes(content)
    assert one_line(
        outcome(lambda: (MonitoredModel.load(tmp_path, version=1), load_reference(tmp_path)), ModelIncompatibleError)
    )


def test_a_level_less_than_was_counted_is_told_when_the_bundle_is_loaded(champion_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(champion_bundle, tmp_path, dirs_exist_ok=True)
    manifest = read_manifest(tmp_path)
    first = next(f for f in manifest.features if f.kind == "category")
    fewer = msgspec.structs.replace(first, levels=first.levels[:-1])
    features = tuple(fewer if f is first else f for f in manifest.features)
    write_manifest(tmp_path, msgspec.structs.replace(manifest, features=features))
    with pytest.raises(ModelIncompatibleError, match=f"profile of {first.name} has"):
        MonitoredModel.load(tmp_path, version=1)
    with pytest.raises(ModelIncompatibleError, match=f"profile of {first.name} has"):
        load_reference(tmp_path)
