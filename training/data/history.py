"""Labelled history from a file or from topics, cleaned by the code that cleans the stream."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn, similar_names
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns, Floats, Indices, Ints, Objects
from scoring.input.cleaning import CleanedBatch
from training.data.chunk import Chunk, RejectionReasons, clean_chunk, join_chunks, refuse_ragged_rows
from training.data.column_presence import ColumnPresence
from training.data.file_reader import read_chunks
from training.data.time_range import ISOLATED_TIME, TimeRange, isolated_rows, utc_minute

MIN_ROWS = 200  # labelled rows
MAX_REJECTED_SHARE = 0.5


class History(NamedTuple):
    """The rows to train on: accepted and labelled, in their original order."""

    source: str  # name of the file or topic
    sha256: str  # of the file's bytes, or of a topic's transactions and labels
    rows: int  # in the source
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int  # accepted rows without a final label
    columns: Columns  # cleaned, each of shape (n,)
    event_time_ms: Ints  # (n,)
    fraud: Floats  # (n,), 0 or 1
    keys: Objects  # (n,), the key's text; (0,) for a data set without a key
    time_range: TimeRange  # of the accepted rows, with a final label or without
    missing_columns: tuple[MissingColumn, ...] = ()  # declared columns that a file lacks
    from_ms: int | None = None  # requested range of event times in a topic, inclusive
    until_ms: int | None = None  # exclusive

    def columns_at(self, rows: Indices) -> dict[str, Array]:
        """The columns restricted to these rows."""
        return {name: values[rows] for name, values in self.columns.items()}


def read_history(path: Path, dataset: Dataset, label_delay_ms: int = 0) -> History:
    """Read and clean a file, and keep its labelled rows.

    label_delay_ms: labels are final after this time; rows younger than that, counted from the newest row that is
    not isolated in time, are not used.
    Raises TrainingError, in one line, when the file is not the declared data set or has too few usable rows.
    """
    if dataset.label is None:
        raise TrainingError(f"the data set {dataset.name!r} declares no label; training needs one")
    whole, missing = read_file(path, dataset)
    _require_label(path, dataset, whole.names)
    cleaned = clean_chunk(dataset, whole, read_labels=True)
    history = labelled_history(path.name, file_sha256(path), dataset, cleaned, label_delay_ms, whole=whole)
    return history._replace(missing_columns=missing)


def read_file(path: Path, dataset: Dataset) -> tuple[Chunk, tuple[MissingColumn, ...]]:
    """All rows of a file, not cleaned, and the declared columns that it lacks.

    Raises TrainingError when the file cannot be read or is not the declared data set, or a row of a CSV file has more
    or fewer fields than the header.
    """
    presence = ColumnPresence(dataset)
    whole = join_chunks(presence.watch(read_chunks(path, dataset)))
    refuse_ragged_rows(path, dataset, whole)
    return whole, presence.missing()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_label(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    if dataset.label is not None and dataset.label not in names:
        similar = "".join(f", but {name!r} looks like it" for name in similar_names(dataset.label, names)[:1])
        raise TrainingError(f"{path}: no label column {dataset.label!r}{similar}; training needs labels")


def labelled_history(
    source: str,
    sha256: str,
    dataset: Dataset,
    cleaned: CleanedBatch,
    label_delay_ms: int,
    name_row: Callable[[int], str] | None = None,
    whole: Chunk | None = None,
) -> History:
    """The labelled rows of cleaned input, without rows that are isolated in time.

    label_delay_ms: as for `read_history`. name_row: as for `without_isolated`. whole: the rows of the file.

    Raises TrainingError, in one line, when most rows are rejected or too few have a final label.
    """
    if cleaned.n == 0:
        raise TrainingError(f"{source}: the history has no rows")
    if len(cleaned.rejections) > MAX_REJECTED_SHARE * cleaned.n:
        reasons = RejectionReasons()
        reasons.update(cleaned.rejections, whole)
        raise TrainingError(
            f"{source}: not the declared data set {dataset.name!r}: {len(cleaned.rejections)} of {cleaned.n} rows are "
            f"rejected, {reasons.commonest}; name another data set with TAMIZ_DATASET"
        )
    cleaned, time_range = without_isolated(cleaned, name_row)
    labels = known_labels(cleaned)
    final = cleaned.event_time_ms <= time_range.last_ms - label_delay_ms
    known = np.flatnonzero(~np.isnan(labels) & final)
    if len(known) < MIN_ROWS:
        young = int(np.count_nonzero(~np.isnan(labels) & ~final))
        if young + len(known) >= MIN_ROWS:
            raise TrainingError(
                f"{source}: not enough matured labels: {len(known)} rows are older than the label delay of "
                f"{label_delay_ms / DAY_MS:g} days, {young} are younger; at least {MIN_ROWS} are needed"
            )
        raise TrainingError(f"{source}: {len(known)} labelled rows are too few to train on; give at least {MIN_ROWS}")
    fraud = labels[known]
    if len(np.unique(fraud)) < 2:
        label = "fraud" if fraud[0] else "legitimate"
        raise TrainingError(f"{source}: all {len(known)} rows are labelled {label}; training needs both classes")
    return History(
        source=source,
        sha256=sha256,
        rows=cleaned.n,
        rejected=rejection_counts(cleaned, time_range),
        unlabelled=len(labels) - len(known),
        columns={name: values[known] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[known],
        fraud=fraud,
        keys=key_array(cleaned)[known] if cleaned.keys else key_array(cleaned),
        time_range=time_range,
    )


def without_isolated(
    cleaned: CleanedBatch, name_row: Callable[[int], str] | None = None
) -> tuple[CleanedBatch, TimeRange]:
    """Leave out the rows that are isolated in time (`training.data.time_range`).

    cleaned: at least one accepted row. name_row: name of an accepted row for people, by its position; None: its number
    in the file.
    """
    times = cleaned.event_time_ms
    isolated = isolated_rows(times)
    first_ms, last_ms = int(times[~isolated].min()), int(times[~isolated].max())
    if not isolated.any():
        return cleaned, TimeRange(first_ms=first_ms, last_ms=last_ms)
    example = int(np.argmax(isolated))
    name = f"row {cleaned.rows[example] + 1}" if name_row is None else name_row(example)
    return rows_at(cleaned, np.flatnonzero(~isolated)), TimeRange(
        first_ms=first_ms,
        last_ms=last_ms,
        isolated_rows=int(isolated.sum()),
        example=f"{name} is at {utc_minute(int(times[example]))} UTC",
    )


def rejection_counts(cleaned: CleanedBatch, time_range: TimeRange) -> dict[str, int]:
    """Rows that are not used, by rejection code; those that are isolated in time among them."""
    return dict(Counter(r.code for r in cleaned.rejections) + Counter({ISOLATED_TIME: time_range.isolated_rows}))


def rows_at(cleaned: CleanedBatch, rows: Indices) -> CleanedBatch:
    """The batch restricted to some of its accepted rows, by position; `n` and `rejections` stay."""
    return cleaned._replace(
        rows=cleaned.rows[rows],
        columns={name: values[rows] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[rows],
        keys=[cleaned.keys[i] for i in rows.tolist()] if cleaned.keys else [],
        transaction_ids=[cleaned.transaction_ids[i] for i in rows.tolist()],
        labels=known_labels(cleaned)[rows],
    )


def key_array(cleaned: CleanedBatch) -> Objects:
    """Keys of the accepted rows, shape (m,); (0,) for a data set without a key."""
    return np.array(cleaned.keys, dtype=object)


def known_labels(cleaned: CleanedBatch) -> Floats:
    """Labels of the accepted rows, shape (m,); NaN where unknown."""
    return np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels
