"""Counts a file's transactions for drift, as a worker would."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from monitoring.counting.counted_features import encode_dead_letters, encode_transactions
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.baseline import HOURS_OF_WEEK, hour_of_week
from monitoring.drift.drift_report import PeriodCounts
from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Ints
from scoring.bundle.declaration_match import check_declaration
from scoring.decision import outcome_codes
from scoring.features import featurize
from training.data.chunk import RejectionReasons, clean_chunk
from training.data.column_presence import ColumnPresence
from training.data.file_profiles import FileProgress, ProfileFiles
from training.data.file_reader import read_chunks
from training.data.label_file import LabelCounts
from training.data.time_range import isolated_days


class FileCounts(NamedTuple):
    """Counts of a file."""

    period: PeriodCounts
    missing_columns: tuple[MissingColumn, ...]  # declared columns that the file lacks
    late_labels: LabelCounts | None  # of a file of late labels


def count_file(
    path: Path,
    dataset: Dataset,
    model: MonitoredModel,
    files: ProfileFiles = ProfileFiles(),  # noqa: B008
    progress: FileProgress = lambda step, share: None,
) -> FileCounts:
    """Clean, score and count a file, in constant memory. Rejected rows count as dead letters.

    Rows that are isolated in time are counted, because their values are valid evidence, but do not extend the period.
    files: what profiles remember before the file. With profiles, the file is read twice, at some 100 bytes a row.
    progress: called with a step and the share of it that is done, in [0, 1].
    Raises TrainingError if the file cannot be read, is not the declared data set or has no valid row,
    ModelIncompatibleError for a model that does not fit the declaration.
    """
    check_declaration(model.manifest, dataset, model.version)
    profiles, late_labels = files.columns_of_file(path, dataset, progress)
    bins = model.bins
    counts, by_hour = np.zeros(bins.n_codes, dtype=np.int64), np.zeros(HOURS_OF_WEEK, dtype=np.int64)
    rows = 0
    presence, reasons = ColumnPresence(dataset), RejectionReasons()
    days: dict[int, DayTimes] = {}
    for chunk in presence.watch(read_chunks(path, dataset)):
        cleaned = profiles.add_to(clean_chunk(dataset, chunk))
        matrix = featurize(model.encoding, cleaned.columns)
        scores = model.score(matrix)
        outcomes = outcome_codes(scores, model.manifest.points)
        codes = encode_transactions(bins, model.manifest, cleaned.columns, matrix, scores, outcomes)
        rejected = encode_dead_letters(bins, len(cleaned.rejections))
        counts += bins.count(np.concatenate([codes, rejected]))[0]
        by_hour += np.bincount(hour_of_week(cleaned.event_time_ms // HOUR_MS), minlength=HOURS_OF_WEEK)
        rows += len(codes) + len(rejected)
        _add_days(days, cleaned.event_time_ms)
        reasons.update(cleaned.rejections, chunk)
        progress("counting", chunk.progress)
    if not days:
        cause = f"all {rows} rows are rejected, {reasons.commonest}" if rows else "the file has no rows"
        raise TrainingError(f"{path}: no valid row of the data set {dataset.name!r}: {cause}; name the right file")
    from_ms, until_ms, isolated = _period(days)
    period = PeriodCounts(
        name=path.name,
        from_ms=from_ms,
        until_ms=until_ms,
        rows=rows,
        counts=counts,
        rows_by_hour=by_hour,
        isolated_rows=isolated,
    )
    return FileCounts(period, presence.missing(), late_labels)


class DayTimes(NamedTuple):
    """Rows of one UTC day, with their first and last event time."""

    rows: int
    first_ms: int
    last_ms: int


def _add_days(days: dict[int, DayTimes], event_time_ms: Ints) -> None:
    times = np.sort(event_time_ms)
    found, starts, counts = np.unique(times // DAY_MS, return_index=True, return_counts=True)
    for day, start, n in zip(found.tolist(), starts.tolist(), counts.tolist(), strict=True):
        first_ms, last_ms = int(times[start]), int(times[start + n - 1])
        old = days.get(day, DayTimes(0, first_ms, last_ms))
        days[day] = DayTimes(old.rows + n, min(old.first_ms, first_ms), max(old.last_ms, last_ms))


def _period(days: dict[int, DayTimes]) -> tuple[int, int, int]:
    """First event time, end (exclusive) and number of isolated rows."""
    order = sorted(days)
    rows = np.array([days[day].rows for day in order], dtype=np.int64)
    isolated = isolated_days(np.array(order, dtype=np.int64), rows)
    kept = [days[day] for day, is_isolated in zip(order, isolated.tolist(), strict=True) if not is_isolated]
    return kept[0].first_ms, kept[-1].last_ms + 1, int(rows[isolated].sum())
