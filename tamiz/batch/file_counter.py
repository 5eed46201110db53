"""Counts a file's transactions for drift, as a worker would."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from monitoring.counting.counted_features import encode_dead_letters, encode_transactions
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.baseline import HOURS_OF_WEEK, hour_of_week
from monitoring.drift.drift_report import PeriodCounts
from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.time_units import HOUR_MS
from scoring.decision import outcome_codes
from scoring.features import featurize
from scoring.input.cleaning import clean_columns
from training.data.file_reader import read_chunks, require_columns


def count_file(
    path: Path, dataset: Dataset, model: MonitoredModel, read: Callable[[float], None] = lambda share: None
) -> PeriodCounts:
    """Clean, score and count a file, in constant memory. Rejected rows count as dead letters.

    read: called after each chunk with the share of the file that is read, in [0, 1].
    Raises TrainingError if the file cannot be read, is not the declared data set or has no valid row,
    ModelIncompatibleError for a model of another data set.
    """
    bins = model.bins
    counts, by_hour = np.zeros(bins.n_codes, dtype=np.int64), np.zeros(HOURS_OF_WEEK, dtype=np.int64)
    rows, first, last = 0, np.iinfo(np.int64).max, -1
    for chunk in read_chunks(path, dataset):
        require_columns(path, dataset, chunk.columns)
        cleaned = clean_columns(dataset, chunk.columns)
        matrix = featurize(model.encoding, cleaned.columns)
        scores = model.score(matrix)
        outcomes = outcome_codes(scores, model.manifest.points)
        codes = encode_transactions(bins, model.manifest, cleaned.columns, matrix, scores, outcomes)
        rejected = encode_dead_letters(bins, len(cleaned.rejections) + len(chunk.ragged))
        counts += bins.count(np.concatenate([codes, rejected]))[0]
        by_hour += np.bincount(hour_of_week(cleaned.event_time_ms // HOUR_MS), minlength=HOURS_OF_WEEK)
        rows += len(codes) + len(rejected)
        first = min(first, int(cleaned.event_time_ms.min(initial=first)))
        last = max(last, int(cleaned.event_time_ms.max(initial=last)))
        read(chunk.progress)
    if last < 0:
        raise TrainingError(f"{path}: no row that the data set {dataset.name!r} accepts; name the right file")
    return PeriodCounts(
        name=path.name, from_ms=first, until_ms=last + 1, rows=rows, counts=counts, rows_by_hour=by_hour
    )
