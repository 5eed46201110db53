"""Records on the wire, all JSON. Field order is the order on the wire."""

from typing import Literal

import msgspec

Outcome = Literal["approve", "review", "decline"]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a transaction was not simply approved: one input's part in its score."""

    feature: str
    value: str | float | None  # as it was scored, before imputation; None was missing
    contribution: float  # to the margin, in log-odds; positive speaks for fraud
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of one transaction.

    It holds nothing that changes when the same transaction meets the same model again; when it was made is the record's
    Kafka timestamp.
    """

    decision_id: str  # UUIDv5 of the transaction id: a redelivery gives the same, whichever model scores it
    transaction_id: str  # the declared field, else topic-partition-offset
    score: float  # probability of fraud, in [0, 1]
    outcome: Outcome
    threshold: float  # the lowest score that gives this outcome
    reasons: tuple[Reason, ...] = ()  # strongest first; empty for an approval
    model: str
    model_version: int
    event_time_ms: int  # set by the producer; windows follow this clock


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a payload cannot be scored. A value, not an exception."""

    row: int  # the payload's place in its batch
    code: str  # stable, kebab-case, few: metrics are labelled with it
    field: str | None  # None: the payload as a whole
    value: str  # what was seen, shortened to 100 characters
    wanted: str  # what would have been accepted


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter went back to the transactions."""

    transaction_id: str
    dead_letter: str  # topic-partition-offset
    redriven_at_ms: int


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a model version."""

    model: str
    model_version: int
    change: Literal["registered", "promoted", "rejected"]
    reason: str
    happened_at_ms: int
