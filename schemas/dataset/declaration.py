"""Declaration of a data set: fields and their formats, key, event time, label and features.

A declaration is a TOML file; `schemas/dataset/` contains those that ship with Tamiz. No other code names a column.
"""

import tomllib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from schemas.errors import SchemaError

Kind = Literal["number", "boolean", "category"]
DERIVED: dict[str, Kind] = {"hour": "number", "day_of_week": "number"}  # computed from the event time


class CsvForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Format of the data set's CSV files."""

    delimiter: str = ","
    encoding: str = "utf-8"


class EventTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of the event time: a date and an hour, or a timestamp in the date field. UTC unless it states a zone."""

    date: str
    formats: tuple[str, ...]  # for `datetime.strptime`; ISO 8601 is always accepted
    hour: str | None = None


class MappingEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of a mapping field; becomes a column."""

    name: str
    key: str
    kind: Kind
    missing: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a payload."""

    name: str
    kind: Literal["number", "boolean", "category", "mapping"]
    required: bool = False  # a missing required field rejects the row; a missing optional one is imputed
    missing: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    entries: tuple[MappingEntry, ...] = ()


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the feature matrix."""

    name: str
    kind: Kind


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the TOML file."""

    name: str
    key: str
    transaction_id: str | None = None
    label: str | None = None
    amount: str | None = None  # field whose number the costs of training are weighted by
    missing: tuple[str, ...] = ("",)
    features: tuple[str, ...]
    csv: CsvForm = CsvForm()
    event_time: EventTime
    fields: tuple[Field, ...]


class Dataset:
    """A valid declaration; created by `load_dataset`."""

    def __init__(self, declaration: Declaration) -> None:
        self.name = declaration.name
        self.key = declaration.key
        self.transaction_id = declaration.transaction_id
        self.label = declaration.label
        self.amount = declaration.amount
        self.missing = declaration.missing
        self.csv = declaration.csv
        self.event_time = declaration.event_time
        self.fields = declaration.fields
        kinds = column_kinds(declaration)
        self.features = tuple(Feature(name=name, kind=kinds[name]) for name in declaration.features)

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Names of all fields that are read from a payload."""
        time = self.event_time
        roles = (self.key, self.transaction_id, self.label, time.date, time.hour)
        return tuple(dict.fromkeys([*(r for r in roles if r), *(f.name for f in self.fields)]))


def column_kinds(declaration: Declaration) -> dict[str, Kind]:
    """Kind of every column that cleaning produces, by name."""
    kinds: dict[str, Kind] = dict(DERIVED)
    for f in declaration.fields:
        if f.kind == "mapping":
            kinds |= {entry.name: entry.kind for entry in f.entries}
        else:
            kinds[f.name] = f.kind
    return kinds


def load_dataset(name_or_path: str) -> Dataset:
    """Read a declaration: by name if it ships with Tamiz, or from a TOML file by its path.

    Raises SchemaError, which names the file and the field, if it is missing, malformed or inconsistent.
    """
    if name_or_path.endswith(".toml"):
        source, path = name_or_path, Path(name_or_path)
        if not path.is_file():
            raise SchemaError(f"{source}: no such file; set dataset to the path of a declaration")
        content = path.read_bytes()
    else:
        shipped = resources.files("schemas.dataset") / f"{name_or_path}.toml"
        source = f"{name_or_path}.toml"
        if not name_or_path.isidentifier() or not shipped.is_file():
            raise SchemaError(f"no data set {name_or_path!r} ships with Tamiz; give the path of a .toml file")
        content = shipped.read_bytes()
    return Dataset(_checked(_decoded(content, source), source))


def _decoded(content: bytes, source: str) -> Declaration:
    try:
        return msgspec.convert(tomllib.loads(content.decode("utf-8")), Declaration)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SchemaError(f"{source}: not a TOML file: {error}") from None
    except msgspec.ValidationError as error:
        raise SchemaError(f"{source}: {error}") from None


def _checked(declaration: Declaration, source: str) -> Declaration:
    def wrong(field: str, why: str) -> SchemaError:
        return SchemaError(f"{source}: field {field!r}: {why}")

    columns = [*DERIVED, *(f.name for f in declaration.fields if f.kind != "mapping")]
    columns += [entry.name for f in declaration.fields for entry in f.entries]
    for name in [*columns, *(f.name for f in declaration.fields if f.kind == "mapping")]:
        if columns.count(name) > 1:
            raise wrong(name, "declared more than once")
    for f in declaration.fields:
        if (f.kind == "mapping") != bool(f.entries):
            raise wrong(f.name, "a mapping needs entries; other kinds must not have any")
        if len({entry.key for entry in f.entries}) < len(f.entries):
            raise wrong(f.name, "two entries read the same key")
        ranges: list[Field | MappingEntry] = [f, *f.entries]
        for ranged in ranges:
            bounded = ranged.min is not None or ranged.max is not None
            if bounded and ranged.kind != "number":
                raise wrong(ranged.name, "only a number may have min and max")
            if ranged.min is not None and ranged.max is not None and ranged.min > ranged.max:
                raise wrong(ranged.name, f"min {ranged.min} is above max {ranged.max}")
    if not declaration.features:
        raise wrong("features", "the list is empty")
    for name in declaration.features:
        if name == declaration.label:
            raise wrong(name, "the label cannot be a feature: it is not known when a transaction is scored")
        if name not in columns:
            raise wrong(name, "listed as a feature, but no field or entry has this name")
        if declaration.features.count(name) > 1:
            raise wrong(name, "listed twice among the features")
    if declaration.amount is not None and column_kinds(declaration).get(declaration.amount) != "number":
        raise wrong(declaration.amount, "the amount must be a field of kind number")
    if not declaration.event_time.formats:
        raise wrong(declaration.event_time.date, "the event time needs at least one format")
    taken = {f.name for f in declaration.fields}
    for role in (declaration.label, declaration.event_time.date, declaration.transaction_id):
        if role in taken:
            raise wrong(
                str(role), "label, date and transaction id are declared by role and must not be among the fields"
            )
    return declaration
