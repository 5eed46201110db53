"""What the values of a model's features are computed from: how texts are read, the event time, the profiles.

Training writes the definitions of a model's features to its manifest. A program with another declaration compares them
with its own: a model may be used if every value that training accepted still means the same. A declaration that reads
more than before, has further fields, ranges or profiles, or other comments, is no other meaning.
"""

from collections.abc import Iterator
from itertools import product

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import DERIVED, Field, MappingEntry
from schemas.dataset.profiles import WINDOWED, Profile, ProfileFeature, format_duration
from schemas.dataset.time_checks import sound_formats
from schemas.dataset.time_formats import NUMERIC_FORMATS, compile_format, conflicting_reading
from scoring.profiles.windows import tile_ms

MAX_SHOWN = 3  # differences in a message


class ColumnDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of a column are read."""

    name: str
    source: str  # "amount", or "device.os" for an entry of a mapping
    kind: str
    missing: tuple[str, ...]  # sorted, like true_values and false_values
    decimal: str | None = None
    thousands: str | None = None
    percent: str | None = None
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()


class TimeDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """How the event time is read."""

    date: str
    hour: str | None
    formats: tuple[str, ...]
    origin: str | None
    zone: str
    repeated_hour: str


class ProfileDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """How one profile feature is computed. Durations are texts, such as "7d"."""

    feature: str
    entity: str
    kind: str
    aggregate: str
    field: str | None = None
    window: str  # without a window, the profile's longest
    grain: str | None = None  # of tiles
    lag: str | None = None
    label_delay: str | None = None
    base_rate: float | None = None


class FeatureDefinitions(msgspec.Struct, frozen=True, kw_only=True):
    """Definitions of everything that a model's features are computed from."""

    event_time: TimeDefinition | None = None  # None: no feature depends on it
    columns: tuple[ColumnDefinition, ...] = ()  # of features, and of entities and fields of profiles
    profiles: tuple[ProfileDefinition, ...] = ()

    def profile_features(self) -> dict[str, ProfileDefinition]:
        """The profiles by name of their feature."""
        return {p.feature: p for p in self.profiles}


def feature_definitions(dataset: Dataset) -> FeatureDefinitions:
    """The definitions of all features of a data set."""
    profiles = tuple(_profile(profile, f) for profile in dataset.profiles for f in profile.features)
    used = {f.name for f in dataset.features} | {p.entity for p in profiles} | {p.field for p in profiles}
    timed = bool(profiles) or not used.isdisjoint(DERIVED)
    return FeatureDefinitions(
        event_time=_event_time(dataset) if timed else None,
        columns=tuple(c for c in _columns(dataset) if c.name in used),
        profiles=profiles,
    )


def definition_differences(trained: FeatureDefinitions, declared: FeatureDefinitions) -> list[str]:
    """What values mean in training and not in a declaration, in words; empty if nothing differs.

    Features that the declaration lacks are left out: `scoring.bundle.declaration_match` names them first.
    """
    found: list[str] = []
    if trained.event_time is not None and declared.event_time is not None:
        found += _time_differences(trained.event_time, declared.event_time)
    columns = {c.name: c for c in declared.columns}
    for column in trained.columns:
        if (now := columns.get(column.name)) is not None:
            found += _column_differences(column, now)
    profiles = declared.profile_features()
    for profile in trained.profiles:
        if (other := profiles.get(profile.feature)) is not None:
            found += _changes(profile.feature, profile, other, ProfileDefinition.__struct_fields__)
    return found


def _columns(dataset: Dataset) -> Iterator[ColumnDefinition]:
    for field in dataset.fields:
        parts: tuple[Field | MappingEntry, ...] = field.entries or (field,)
        for part in parts:
            number = dataset.number_formats.get(part.name)
            truth = dataset.truth_values.get(part.name)
            # A mapping's own spellings are those of the whole text; its entries have theirs.
            yield ColumnDefinition(
                name=part.name,
                source=f"{field.name}.{part.key}" if isinstance(part, MappingEntry) else field.name,
                kind=part.kind,
                missing=tuple(sorted({*dataset.missing, *part.missing})),
                decimal=number.decimal if number else None,
                thousands=number.thousands if number else None,
                percent=number.percent if number else None,
                true_values=tuple(sorted(truth.true)) if truth else (),
                false_values=tuple(sorted(truth.false)) if truth else (),
            )


def _event_time(dataset: Dataset) -> TimeDefinition:
    time = dataset.event_time
    return TimeDefinition(
        date=time.date,
        hour=time.hour,
        formats=time.formats,
        origin=time.origin,
        zone=time.zone,
        repeated_hour=time.repeated_hour,
    )


def _profile(profile: Profile, feature: ProfileFeature) -> ProfileDefinition:
    windowed = feature.aggregate in WINDOWED and feature.window_ms is not None
    return ProfileDefinition(
        feature=feature.name,
        entity=profile.entity,
        kind=profile.kind,
        aggregate=feature.aggregate,
        field=feature.field,
        window=format_duration(feature.window_ms if windowed and feature.window_ms else profile.horizon_ms),
        grain=format_duration(tile_ms(profile.windows_ms[0])) if profile.kind == "tiles" else None,
        lag=format_duration(profile.lag_ms) if profile.kind == "tiles" else None,
        label_delay=format_duration(profile.label_delay_ms) if profile.kind == "labels" else None,
        base_rate=profile.base_rate if feature.aggregate == "fraud_rate" else None,
    )


def _changes(name: str, old: msgspec.Struct, new: msgspec.Struct, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        was, now = getattr(old, key), getattr(new, key)
        if was != now:
            yield f"{name}: {key} was {_shown(was)} and is {_shown(now)}"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value) if isinstance(value, float) else repr(value)


def _column_differences(old: ColumnDefinition, new: ColumnDefinition) -> Iterator[str]:
    name = f"field {old.name!r}"
    if old.kind != new.kind:
        yield f"{name}: kind was {old.kind!r} and is {new.kind!r}"
        return
    yield from _changes(name, old, new, ("source",))
    if any(_mark_role(old, mark) != _mark_role(new, mark) and _mark_role(old, mark) and _mark_role(new, mark)
           for mark in ".,"):  # fmt: skip
        yield from _changes(name, old, new, ("decimal", "thousands"))
    if old.percent and new.percent:
        yield from _changes(name, old, new, ("percent",))
    for spelling in (*old.missing, *new.missing):
        was, now = _reading(old, spelling), _reading(new, spelling)
        if was and now and was != now:
            yield f"{name}: {spelling!r} was {was} and is {now}"
    for spelling in (*old.true_values, *old.false_values):
        was, now = _reading(old, spelling), _reading(new, spelling)
        if now and was != now and spelling not in (*old.missing, *new.missing):
            yield f"{name}: {spelling!r} was {was} and is {now}"


def _mark_role(column: ColumnDefinition, mark: str) -> str | None:
    """Role of a mark in the column's numbers; None where it is decided by each text or the text is rejected."""
    if column.decimal in (mark, "either"):
        return "decimal"
    return "thousands" if column.thousands == mark else None


def _reading(column: ColumnDefinition, spelling: str) -> str | None:
    """What a column reads a spelling as; None: nothing, it is rejected."""
    if spelling in column.missing:
        return "missing"
    if column.kind == "category":
        return "a level" if spelling.strip() else "missing"
    if column.kind == "number":
        return "a number" if any(c.isdigit() for c in spelling) else None
    return "true" if spelling in column.true_values else "false" if spelling in column.false_values else None


def _time_differences(old: TimeDefinition, new: TimeDefinition) -> Iterator[str]:
    name = "event time"
    yield from _changes(name, old, new, ("date", "hour", "origin", "zone"))
    if "reject" not in (old.repeated_hour, new.repeated_hour):
        yield from _changes(name, old, new, ("repeated_hour",))
    was, now = ({f for f in time.formats if f in NUMERIC_FORMATS} for time in (old, new))
    if was and now and was != now:
        yield f"{name}: format was {min(was)!r} and is {min(now)!r}"
    if set(old.formats) != set(new.formats):
        pairs = product(*(map(compile_format, sound_formats(time.formats, time.zone)) for time in (old, new)))
        for a, b in pairs:
            if (example := conflicting_reading(a, b) or conflicting_reading(b, a)) is not None:
                yield f"{name}: {example!r} was read as {a.text!r} and is read as {b.text!r}"
                return
