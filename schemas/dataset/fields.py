"""Structure of a declaration's TOML file."""

from typing import Any, Literal

import msgspec

from schemas.dataset.profiles import ProfileForm
from schemas.dataset.value_formats import FALSE_VALUES, TRUE_VALUES, DecimalMark, LabelValues, Percent

Kind = Literal["number", "boolean", "category"]
UNDECIDED = "<undecided>"  # written by `tamiz declare` where a person must decide; a declaration with it is refused
DERIVED: dict[str, Kind] = {"hour": "number", "day_of_week": "number"}  # computed from the event time


class CsvForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Format of the data set's CSV files."""

    delimiter: str = ","
    encoding: str = "utf-8"


class TimeForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the event time is read."""

    # For `datetime.strptime`, or one of "epoch_s", "epoch_ms", "epoch_us", "excel", "offset_s", "offset_h".
    # ISO 8601 is always accepted.
    formats: tuple[str, ...]
    origin: str | None = None  # ISO 8601: the instant from which offset_s and offset_h count
    hour: str | None = None
    zone: str = "UTC"  # IANA name: zone of the times that state none
    repeated_hour: Literal["reject", "earlier", "later"] = "reject"  # meaning of a local time that occurs twice


class EventTimeForm(TimeForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of the event time: a date and an hour, or a timestamp in the date field."""

    date: str | tuple[str, ...]  # several fields are joined by spaces and read as one text

    @property
    def parts(self) -> tuple[str, ...]:
        """The fields that hold date or timestamp."""
        return (self.date,) if isinstance(self.date, str) else self.date


class EventTime(TimeForm, frozen=True, kw_only=True):
    """The event time of a valid declaration."""

    date: str  # name of the field, or of the text that the parts are joined to
    parts: tuple[str, ...]  # fields that hold it: the date field, or several


class ScalarForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the texts of one column are read; a format that is None is that of the data set (`value_formats`)."""

    missing: tuple[str, ...] = ()  # in addition to those of the data set
    min: float | None = None
    max: float | None = None
    decimal: DecimalMark | None = None
    thousands: str | None = None
    currency: tuple[str, ...] | None = None
    percent: Percent | None = None
    normalize: bool | None = None
    true_values: tuple[str, ...] | None = None
    false_values: tuple[str, ...] | None = None


class MappingEntry(ScalarForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of a mapping field; becomes a column."""

    name: str
    key: str
    kind: Kind


class Field(ScalarForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a payload."""

    name: str
    kind: Literal["number", "boolean", "category", "mapping"]
    required: bool = False  # a missing required field rejects the row; a missing optional one is imputed
    entries: tuple[MappingEntry, ...] = ()


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the feature matrix."""

    name: str
    kind: Kind


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the TOML file."""

    name: str
    key: str  # field of the card holder; "" for a data set without one
    transaction_id: str | None = None
    label: str | None = None
    amount: str | None = None  # field whose number the costs of training are weighted by
    missing: tuple[str, ...] = ("",)
    decimal: DecimalMark | None = None
    thousands: str | None = None
    currency: tuple[str, ...] = ()
    percent: Percent | None = None
    normalize: bool = False
    true_values: tuple[str, ...] = TRUE_VALUES
    false_values: tuple[str, ...] = FALSE_VALUES
    label_values: LabelValues = LabelValues()
    features: tuple[str, ...]
    csv: CsvForm = CsvForm()
    event_time: EventTimeForm
    fields: tuple[Field, ...]
    profiles: tuple[ProfileForm, ...] = ()


def declared(declaration: Declaration, field: ScalarForm | Declaration, key: str) -> Any:
    """A format of a column: the field's own, else that of the data set. key: a name that both have, such as decimal."""
    own = getattr(field, key)
    return getattr(declaration, key) if own is None else own


def column_kinds(declaration: Declaration) -> dict[str, Kind]:
    """Kind of every column that cleaning produces, by name."""
    kinds: dict[str, Kind] = dict(DERIVED)
    for f in declaration.fields:
        if f.kind == "mapping":
            kinds |= {entry.name: entry.kind for entry in f.entries}
        else:
            kinds[f.name] = f.kind
    return kinds
