"""Labelled history from a file or from topics, cleaned by the code that cleans the stream."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn, similar_names
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns, Floats, Indices, Ints, Objects
from scoring.input.cleaning import CleanedBatch
from training.data.chunk import (
    RejectionReasons,
    clean_chunk,
    join_batches,
    key_array,
    known_labels,
    refuse_ragged_rows,
    rows_at,
)
from training.data.column_presence import ColumnPresence
from training.data.file_profiles import FileProgress, ProfileFiles
from training.data.file_reader import read_chunks
from training.data.label_file import LabelCounts, read_labels, with_late_labels
from training.data.profile_values import ProfileSources
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
    late_labels: LabelCounts | None = None  # of a file of late labels
    from_ms: int | None = None  # requested range of event times, inclusive
    until_ms: int | None = None  # exclusive
    outside_range: int = 0  # accepted rows of a file that are not in the requested range
    profile_sources: ProfileSources | None = None  # of a topic's rows; None without profiles, and for a file

    def columns_at(self, rows: Indices) -> dict[str, Array]:
        """The columns restricted to these rows."""
        return {name: values[rows] for name, values in self.columns.items()}


def read_history(
    path: Path,
    dataset: Dataset,
    label_delay_ms: int = 0,
    *,
    labels: Path | None = None,
    from_ms: int | None = None,
    until_ms: int | None = None,
    progress: FileProgress = lambda step, share: None,
) -> History:
    """Read and clean a file, and keep its labelled rows.

    label_delay_ms: labels are final after this time; rows younger than that, counted from the newest row that is
    not isolated in time, are not used. labels: a file of late labels (`training.data.label_file`); the last reported
    one holds, and a row that it does not name keeps the label of its label column. from_ms, until_ms: range of event
    times, [from_ms, until_ms). progress: called with a step and the share of it that is done.
    Raises TrainingError, in one line, when the file is not the declared data set or has too few usable rows.
    """
    if dataset.label is None and labels is None:
        raise TrainingError(f"the data set {dataset.name!r} declares no label; training needs one")
    late = None if labels is None else read_labels(labels, dataset)
    file = read_file(path, dataset, read_labels=True, progress=lambda share: progress("reading and cleaning", share))
    if late is None:
        _require_label(path, dataset, file.names)
    cleaned, time_range = usable_rows(path.name, dataset, file.cleaned, file.reasons)
    # Profiles come before rows are left out: a row without a label counts for later rows too.
    cleaned = ProfileFiles().columns_of_rows(cleaned, dataset, late, progress)
    cleaned, counts = with_late_labels(cleaned, late)
    sha256 = file_sha256(path)
    if late is not None:
        sha256 = hashlib.sha256(f"{sha256} {late.sha256}".encode()).hexdigest()
    accepted = len(cleaned.rows)
    if from_ms is not None or until_ms is not None:
        cleaned, time_range = rows_between(path.name, cleaned, time_range, from_ms, until_ms)
    history = labelled_history(path.name, sha256, cleaned, time_range, label_delay_ms)
    return history._replace(
        missing_columns=file.missing_columns,
        late_labels=counts,
        from_ms=from_ms,
        until_ms=until_ms,
        outside_range=accepted - len(cleaned.rows),
    )


class FileRows(NamedTuple):
    """The rows of a file, cleaned."""

    cleaned: CleanedBatch
    reasons: RejectionReasons
    names: tuple[str, ...]  # of the columns
    missing_columns: tuple[MissingColumn, ...]  # declared columns that the file lacks


def read_file(
    path: Path, dataset: Dataset, *, read_labels: bool, progress: Callable[[float], None] = lambda share: None
) -> FileRows:
    """All rows of a file, cleaned chunk by chunk, so that only the cleaned columns are held in memory.

    progress: called with the share of the file that has been read.
    Raises TrainingError when the file cannot be read or is not the declared data set, or a row of a CSV file has more
    or fewer fields than the header.
    """
    presence, reasons = ColumnPresence(dataset), RejectionReasons()
    batches: list[CleanedBatch] = []
    names: tuple[str, ...] = ()
    for chunk in presence.watch(read_chunks(path, dataset)):
        refuse_ragged_rows(path, dataset, chunk)
        cleaned = clean_chunk(dataset, chunk, read_labels=read_labels)
        reasons.update(cleaned.rejections, chunk)
        batches.append(cleaned)
        names = chunk.names
        progress(chunk.progress)
    return FileRows(join_batches(batches), reasons, names, presence.missing())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_label(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    if dataset.label is not None and dataset.label not in names:
        similar = "".join(f", but {name!r} looks like it" for name in similar_names(dataset.label, names)[:1])
        raise TrainingError(f"{path}: no label column {dataset.label!r}{similar}; training needs labels")


def usable_rows(
    source: str,
    dataset: Dataset,
    cleaned: CleanedBatch,
    reasons: RejectionReasons,
    name_row: Callable[[int], str] | None = None,
) -> tuple[CleanedBatch, TimeRange]:
    """The accepted rows of cleaned input, without those that are isolated in time.

    reasons: of the rejections. name_row: as for `without_isolated`.
    Raises TrainingError, in one line, when there is no row or most rows are rejected.
    """
    if cleaned.n == 0:
        raise TrainingError(f"{source}: the history has no rows")
    if len(cleaned.rejections) > MAX_REJECTED_SHARE * cleaned.n:
        raise TrainingError(
            f"{source}: not the declared data set {dataset.name!r}: {len(cleaned.rejections)} of {cleaned.n} rows are "
            f"rejected, {reasons.commonest}; name another data set with TAMIZ_DATASET"
        )
    return without_isolated(cleaned, name_row)


def rows_between(
    source: str, cleaned: CleanedBatch, time_range: TimeRange, from_ms: int | None, until_ms: int | None
) -> tuple[CleanedBatch, TimeRange]:
    """The rows whose event time lies in [from_ms, until_ms); None for no bound.

    A rejected row has no event time; that of the accepted row before it decides.
    Raises TrainingError when no row is left.
    """
    times = cleaned.event_time_ms
    inside = np.ones(len(times), dtype=bool)
    if from_ms is not None:
        inside &= times >= from_ms
    if until_ms is not None:
        inside &= times < until_ms
    if not inside.any():
        raise TrainingError(
            f"{source}: no valid row lies in the time range; the event times are {time_range.summary}; "
            "widen --from, --until"
        )
    before = np.searchsorted(cleaned.rows, [r.row for r in cleaned.rejections]) - 1
    rejections = [r for r, i in zip(cleaned.rejections, before.tolist(), strict=True) if inside[max(i, 0)]]
    kept = rows_at(cleaned, np.flatnonzero(inside))
    kept = kept._replace(n=len(kept.rows) + len(rejections) + time_range.isolated_rows, rejections=rejections)
    first_ms, last_ms = int(kept.event_time_ms.min()), int(kept.event_time_ms.max())
    return kept, msgspec.structs.replace(time_range, first_ms=first_ms, last_ms=last_ms)


def labelled_history(
    source: str, sha256: str, cleaned: CleanedBatch, time_range: TimeRange, label_delay_ms: int
) -> History:
    """The labelled rows of usable rows.

    label_delay_ms: as for `read_history`.
    Raises TrainingError, in one line, when too few rows have a final label.
    """
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
