"""What the reducer reads of a cleaned batch: hashes of entities, levels and ids, numbers, and event times.

Numbers have the precision of float32, as all features of the model. Texts are hashed (XXH3, seed 0), so that the state
has fixed width; 0 is the hash of a missing text.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from scoring.arrays import Array, Flags, Floats, Hashes, Indices, Ints, Matrix, ShortHashes
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.profile_plan import ProfilePlan


class ProfileInputs(NamedTuple):
    """One element or row per accepted transaction, in the order of the batch."""

    event_time_ms: Ints  # shape (n,)
    entities: dict[str, Hashes]  # by entity of the plan, shape (n,); 0 if missing
    values: Matrix  # shape (n, n_number_fields); NaN if missing
    levels: ShortHashes  # shape (n, n_category_fields); 0 if missing
    ids: Hashes  # shape (n,); 0 for a transaction without an id of its own

    def at(self, rows: Array) -> "ProfileInputs":
        """The inputs restricted to some rows."""
        return ProfileInputs(
            self.event_time_ms[rows],
            {name: hashes[rows] for name, hashes in self.entities.items()},
            self.values[rows],
            self.levels[rows],
            self.ids[rows],
        )


def profile_inputs(plan: ProfilePlan, cleaned: CleanedBatch) -> ProfileInputs:
    """The inputs of the accepted rows of a cleaned batch."""
    n = len(cleaned.rows)
    values = np.empty((n, len(plan.number_fields)), dtype=np.float32)
    for j, name in enumerate(plan.number_fields):
        values[:, j] = cleaned.columns[name]
    levels = np.empty((n, len(plan.category_fields)), dtype=np.uint32)
    for j, name in enumerate(plan.category_fields):
        levels[:, j] = short_hashes(_texts(plan, cleaned, name))
    return ProfileInputs(
        event_time_ms=cleaned.event_time_ms,
        entities={name: hashes(_texts(plan, cleaned, name)) for name in plan.entities},
        values=values,
        levels=levels,
        ids=hashes(cleaned.transaction_ids),
    )


def join_inputs(parts: Sequence[ProfileInputs]) -> ProfileInputs:
    """Inputs of consecutive rows as one. parts: at least one."""
    return ProfileInputs(
        event_time_ms=np.concatenate([part.event_time_ms for part in parts]),
        entities={name: np.concatenate([part.entities[name] for part in parts]) for name in parts[0].entities},
        values=np.concatenate([part.values for part in parts]),
        levels=np.concatenate([part.levels for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
    )


class HistoryLabels(NamedTuple):
    """Labels of rows, as they were reported; a row may have none, or several."""

    rows: Indices  # position of the labelled row
    fraud: Flags
    reported_at_ms: Ints

    @classmethod
    def of_column(cls, labels: Floats, event_time_ms: Ints) -> "HistoryLabels":
        """The labels of a label column, NaN where unknown, each known as soon as the label delay is over.

        A label counts no earlier than the delay after its event in any case, so the event's time serves as report time.
        """
        rows = np.flatnonzero(~np.isnan(labels))
        return cls(rows, labels[rows] == 1, event_time_ms[rows])


def hashes(texts: Iterable[str | None]) -> Hashes:
    """64-bit hashes of texts; 0 for None. The hash of a text is never 0.

    >>> hashes(["card", None]).tolist()
    [8355060979003362214, 0]
    """
    digest = xxhash.xxh3_64_intdigest
    return np.array([0 if text is None else digest(text) or 1 for text in texts], dtype=np.uint64)


def short_hashes(texts: Iterable[str | None]) -> ShortHashes:
    """32-bit hashes of texts; 0 for None. The hash of a text is never 0."""
    digest = xxhash.xxh3_64_intdigest
    return np.array([0 if text is None else (digest(text) & 0xFFFFFFFF) or 1 for text in texts], dtype=np.uint32)


def _texts(plan: ProfilePlan, cleaned: CleanedBatch, name: str) -> Iterable[str | None]:
    return cleaned.keys if name == plan.key else cleaned.columns[name].tolist()
