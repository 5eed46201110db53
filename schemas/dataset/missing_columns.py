"""Declared columns that a file lacks, and the undeclared names that look like them. Pure."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError

MIN_SIMILARITY = 0.8  # of difflib, between 0 and 1
MAX_SIMILAR = 3


class MissingColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A declared column that no row of a file has."""

    name: str  # of the field; "field.key" for an entry of a mapping
    similar: tuple[str, ...]  # undeclared names of the file that look like it, most similar first


def missing_columns(dataset: Dataset, found: Iterable[str]) -> tuple[MissingColumn, ...]:
    """The declared fields that are not among the names `found`.

    The hour, the transaction id and the label may be absent: they are listed only if a name looks like theirs.
    """
    names = dict.fromkeys(found)
    candidates = [name for name in names if name not in dataset.field_names]
    needed = required_columns(dataset) | {field.name for field in dataset.fields}
    missing = [
        MissingColumn(name=name, similar=similar_names(name, candidates))
        for name in dataset.field_names
        if name not in names
    ]
    return tuple(column for column in missing if column.name in needed or column.similar)


def format_missing(columns: Iterable[MissingColumn]) -> str:
    """Missing columns and what looks like them, for a message.

    >>> format_missing([MissingColumn(name="amount", similar=()), MissingColumn(name="place", similar=("Place",))])
    "no column amount, place; 'Place' looks like place"
    """
    columns = list(columns)
    similar = [f"; {name!r} looks like {column.name}" for column in columns for name in column.similar[:1]]
    return f"no column {', '.join(column.name for column in columns)}{''.join(similar)}"


def refuse_unconsented(dataset: Dataset, source: str, missing: Sequence[MissingColumn], allowed: Sequence[str]) -> None:
    """Check that a person has consented to train without each missing optional column.

    allowed: names of optional fields and "field.key" of mappings that may be missing.
    Raises TrainingError when a column is missing without consent, or `allowed` names no such field.
    """
    optional = {f.name for f in dataset.fields if not f.required}
    optional |= {f"{f.name}.{entry.key}" for f in dataset.fields for entry in f.entries}
    if unknown := [name for name in allowed if name not in optional]:
        raise TrainingError(
            f"--allow-missing {unknown[0]}: the data set {dataset.name!r} declares no optional field of this name; "
            f"it declares {', '.join(sorted(optional))}"
        )
    if refused := [column for column in missing if column.name in optional - set(allowed)]:
        consent = " ".join(f"--allow-missing {column.name}" for column in refused)
        raise TrainingError(
            f"{source}: {format_missing(refused)}; correct the names in the file or the declaration, or train without "
            f"these columns: {consent}"
        )


def required_columns(dataset: Dataset) -> frozenset[str]:
    """The columns without which every row is rejected: key, event time and required fields."""
    key = [dataset.key] if dataset.key else []
    return frozenset([*key, *dataset.event_time.parts, *(f.name for f in dataset.fields if f.required)])


def similar_names(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The candidates that look like `name`: equal without case, accents and punctuation, or a few letters differ.

    >>> similar_names("place", ["Pláce ", "plcae", "price", "amount"])
    ('Pláce ', 'plcae')
    """
    letters = {candidate: _letters(candidate) for candidate in candidates}
    wanted = _letters(name)
    similarity = {
        candidate: difflib.SequenceMatcher(None, wanted, folded).ratio() for candidate, folded in letters.items()
    }
    close = [candidate for candidate in similarity if similarity[candidate] >= MIN_SIMILARITY]
    return tuple(sorted(close, key=lambda candidate: -similarity[candidate])[:MAX_SIMILAR])


def _letters(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in decomposed if c.isalnum())
