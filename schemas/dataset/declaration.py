"""Declaration of a data set: fields and their formats, key, event time, label and features.

A declaration is a TOML file; `schemas/dataset/` contains those that ship with Tamiz. No other code names a column.
"""

import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from schemas.dataset.declaration_checks import find_fault
from schemas.dataset.fields import (
    UNDECIDED,
    Declaration,
    EventTime,
    EventTimeForm,
    Feature,
    Field,
    MappingEntry,
    column_kinds,
    declared,
)
from schemas.dataset.profiles import profiles_digest, resolve_profile
from schemas.dataset.time_formats import event_time_format
from schemas.dataset.type_faults import type_fault
from schemas.dataset.value_formats import NumberFormat, TruthValues, fold_spelling
from schemas.errors import SchemaError
from schemas.security.sanitizer import printable


class Dataset:
    """A valid declaration; created by `load_dataset`."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.name = declaration.name
        self.key = declaration.key or None
        self.transaction_id = declaration.transaction_id
        self.label = declaration.label
        self.amount = declaration.amount
        self.missing = declaration.missing
        self.csv = declaration.csv
        self.event_time = _event_time(declaration.event_time)
        self.time_format = event_time_format(self.event_time)
        self.fields = declaration.fields
        kinds = column_kinds(declaration)
        self.profiles = tuple(resolve_profile(form, declaration.key) for form in declaration.profiles)
        self.profile_features = tuple(f for profile in self.profiles for f in profile.features)
        self.profiles_digest = profiles_digest(self.profiles)
        own = (Feature(name=name, kind=kinds[name]) for name in declaration.features)
        remembered = (Feature(name=f.name, kind="number") for f in self.profile_features)
        self.features = (*own, *remembered)
        scalars = [entry for f in declaration.fields for entry in (f.entries or (f,))]
        # Formats by name of the column.
        self.number_formats = {f.name: _number_format(declaration, f) for f in scalars if f.kind == "number"}
        self.truth_values = {f.name: _truth_values(declaration, f) for f in scalars if f.kind == "boolean"}
        self.label_values = _label_values(declaration)

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Names of all fields that are read from a payload."""
        time = self.event_time
        roles = (self.key, self.transaction_id, self.label, *time.parts, time.hour)
        return tuple(dict.fromkeys([*(r for r in roles if r), *(f.name for f in self.fields)]))


def _event_time(form: EventTimeForm) -> EventTime:
    return EventTime(**{**msgspec.structs.asdict(form), "date": " ".join(form.parts), "parts": form.parts})


def _number_format(declaration: Declaration, field: Field | MappingEntry) -> NumberFormat:
    return NumberFormat(**{key: declared(declaration, field, key) for key in NumberFormat.__struct_fields__})


def _truth_values(declaration: Declaration, field: Field | MappingEntry) -> TruthValues:
    return TruthValues(
        true=_folded(declared(declaration, field, "true_values")),
        false=_folded(declared(declaration, field, "false_values")),
    )


def _label_values(declaration: Declaration) -> TruthValues:
    values = declaration.label_values
    own = values.fraud or values.legitimate
    return TruthValues(
        true=_folded(values.fraud if own else declaration.true_values),
        false=_folded(values.legitimate if own else declaration.false_values),
        unknown=_folded(values.unknown),
        others="false" if values.others == "legitimate" else values.others,
    )


def _folded(spellings: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(fold_spelling, spellings))


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
    declaration = _decoded(content, source)
    if fault := find_fault(declaration):
        raise _error(source, fault)
    return Dataset(declaration)


def _error(source: str, why: str) -> SchemaError:
    return SchemaError(printable(f"{source}: {why}"))


def _decoded(content: bytes, source: str) -> Declaration:
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _error(source, f"not a TOML file: {error}") from None
    if open_places := list(_undecided(values)):
        candidates = "the comments above it name the candidates"
        places = ", ".join(open_places)
        raise _error(source, f"not decided: {places}; replace {UNDECIDED!r} by what is right; {candidates}")
    try:
        return msgspec.convert(values, Declaration)
    except msgspec.ValidationError as error:
        raise _error(source, type_fault(str(error), values)) from None


def _undecided(value: Any, place: str = "") -> Iterator[str]:
    """Places of a declaration that a person must decide, such as `event_time.formats`."""
    if value == UNDECIDED:
        yield place
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _undecided(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for inner in value:
            named = inner.get("name") if isinstance(inner, dict) else None
            yield from _undecided(inner, f"{place} {named!r}" if named else place)
