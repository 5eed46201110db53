"""Adds the logged profile features to transactions that `tamiz shadow` scores as they arrive."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.feature_log import feature_columns
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.batch_records import IncomingRecord
from stream_app.decisions.logged_features import FeatureLogReader

WAIT_S = 5.0  # for the values of transactions that workers have not decided yet


class ShadowFeatures:
    """Reads the feature log, if the data set declares profiles. Use it as a context."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self._plan = ProfilePlan.of(dataset)
        self._stack = ExitStack()
        self._reader: FeatureLogReader | None = None
        if dataset.profiles:
            self._reader = self._stack.enter_context(FeatureLogReader(settings, self._plan))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def added(self, cleaned: CleanedBatch, records: Sequence[IncomingRecord]) -> tuple[CleanedBatch, int]:
        """The batch with its profile features, and the number of rows that are left out: their values are not logged.

        records: all of the batch. Waits up to `WAIT_S` for values of decisions that are not written yet.
        """
        if self._reader is None:
            return cleaned, 0
        partitions = np.array([r.partition for r in records], np.intp)
        offsets = np.array([r.offset for r in records], np.int64)
        places = list(zip(partitions[cleaned.rows].tolist(), offsets[cleaned.rows].tolist(), strict=True))
        logged = self._reader.read(places, time.monotonic() + WAIT_S, wait=True)
        values = logged.features(cleaned, partitions, offsets).values
        columns = {**cleaned.columns, **feature_columns(self._plan.names, values)}
        kept = np.flatnonzero([place in logged for place in places])
        return cleaned._replace(
            rows=cleaned.rows[kept],
            columns={name: column[kept] for name, column in columns.items()},
            event_time_ms=cleaned.event_time_ms[kept],
            keys=[cleaned.keys[i] for i in kept.tolist()] if cleaned.keys else [],
            transaction_ids=[cleaned.transaction_ids[i] for i in kept.tolist()],
        ), len(places) - len(kept)
