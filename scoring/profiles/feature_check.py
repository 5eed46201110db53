"""Compares the logged values of profile features with replayed ones, bit for bit. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from scoring.arrays import Flags, Ints, Matrix
from scoring.profiles.feature_log import FeatureLog
from scoring.profiles.profile_plan import ProfilePlan


class ValueDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction whose logged value differs from the replayed one."""

    transaction_id: str
    partition: int
    offset: int
    logged: float | None  # null: missing
    replayed: float | None


class FeatureAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of one profile feature."""

    feature: str
    equal: int  # transactions with the same value, bit for bit, or with none in both
    different: int
    missing: int  # transactions without a record of the feature log
    example: ValueDifference | None  # the first difference, by partition and offset


class FeatureCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `tamiz features check`."""

    transactions: int  # decided ones in the range of event times
    compared: int
    incomplete: int  # not compared: a partition lagged at the decision, or the past of a transaction has expired
    missing: int  # not compared: no record of the declared profiles
    undecided: int  # transactions after the last one that is logged in their partition
    records_of_other_profiles: int  # in the feature log, of a former declaration
    features: tuple[FeatureAgreement, ...]  # in the order of declaration

    @property
    def all_equal(self) -> bool:
        """Whether no value differs."""
        return not any(f.different for f in self.features)


class CheckedRows(NamedTuple):
    """Transactions to compare, with their replayed values; one element or row each, by partition and offset."""

    partitions: Ints
    offsets: Ints
    ids: Sequence[str]
    event_time_ms: Ints
    values: Matrix  # shape (n, n_features), float32
    complete: Flags  # whether everything that a replayed value is computed from is known

    def at(self, rows: Ints) -> "CheckedRows":
        """The rows at some positions."""
        return CheckedRows(
            self.partitions[rows],
            self.offsets[rows],
            [self.ids[i] for i in rows.tolist()],
            self.event_time_ms[rows],
            self.values[rows],
            self.complete[rows],
        )


def check_features(plan: ProfilePlan, log: FeatureLog, rows: CheckedRows) -> FeatureCheck:
    """Compare the values of transactions."""
    decided = rows.offsets <= _last_logged(log, rows.partitions)
    undecided = int(np.count_nonzero(~decided))
    rows = rows.at(np.flatnonzero(decided))
    found = log.find(rows.partitions, rows.offsets, rows.ids, rows.event_time_ms)
    comparable = np.flatnonzero(found.found & found.complete & rows.complete)
    missing = int(np.count_nonzero(~found.found))
    features = tuple(
        _agreement(name, found.matrix[:, j], rows, j, comparable, missing) for j, name in enumerate(plan.names)
    )
    return FeatureCheck(
        transactions=len(rows.offsets),
        compared=len(comparable),
        incomplete=len(rows.offsets) - missing - len(comparable),
        missing=missing,
        undecided=undecided,
        records_of_other_profiles=log.of_other_profiles,
        features=features,
    )


def _last_logged(log: FeatureLog, partitions: Ints) -> Ints:
    last = log.last_offsets()
    return np.array([last.get(p, -1) for p in partitions.tolist()], dtype=np.int64)


def _agreement(
    name: str, logged: Matrix, rows: CheckedRows, column: int, comparable: Ints, missing: int
) -> FeatureAgreement:
    ours, theirs = logged[comparable], rows.values[comparable, column]
    different = ~((ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs)))
    example = None
    if different.any():
        i = int(np.argmax(different))
        row = int(comparable[i])
        example = ValueDifference(
            transaction_id=rows.ids[row],
            partition=int(rows.partitions[row]),
            offset=int(rows.offsets[row]),
            logged=_value(ours[i]),
            replayed=_value(theirs[i]),
        )
    n_different = int(np.count_nonzero(different))
    return FeatureAgreement(
        feature=name, equal=len(comparable) - n_different, different=n_different, missing=missing, example=example
    )


def _value(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
