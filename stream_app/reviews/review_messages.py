"""What the API of the review queue answers. Times are in milliseconds since 1970 (UTC); texts are printable."""

from typing import Literal

import msgspec

from schemas.records import Decider, Outcome, Reason, RuleMatch

Opinion = Literal["fraud", "legitimate", "not-sure"]  # of a reviewer, or of a label from elsewhere
FRAUD: dict[Opinion, bool | None] = {"fraud": True, "legitimate": False, "not-sure": None}
OPINIONS: dict[bool | None, Opinion] = {fraud: opinion for opinion, fraud in FRAUD.items()}


class CaseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The label of a case."""

    verdict: Opinion
    by: str | None  # reviewer, as `web:ana`; null: a label from elsewhere, such as a chargeback
    at_ms: int


class CaseClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A reviewer works on a case."""

    by: str
    until_ms: int


class CaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One case of the queue."""

    id: str  # of the decision
    transaction_id: str
    card: str | None  # key of the transaction's record
    outcome: Outcome
    model_outcome: Outcome
    decided_by: Decider
    score: float
    threshold: float
    model_version: int
    event_time_ms: int
    decided_at_ms: int
    amount: float | None  # null: not read yet, not readable, or the data set declares no amount
    matches: tuple[RuleMatch, ...]  # of rules and lists; the one that decided first
    reasons: tuple[Reason, ...]  # of the score, strongest first
    verdict: CaseVerdict | None
    claim: CaseClaim | None


class CasePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the queue."""

    cases: tuple[CaseView, ...]
    matching: int  # cases that match the filter, on all pages
    next: str | None  # `after` of the next page; null: this is the last one
    waiting: int  # transactions sent to review without a label
    unsure: int  # cases of any outcome on which a reviewer was not sure
    cut: int  # cases that were dropped, because the queue holds a limited number, since the start
    unread: int  # older decisions, and decisions of a lag, that were not read
    since_ms: int | None  # time of the oldest decision that was read; null: none yet
    error: str | None  # why decisions are not read, in one line


class CardTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier or later transaction of the card, with its decision."""

    transaction_id: str
    event_time_ms: int
    outcome: Outcome
    score: float
    amount: float | None
    verdict: CaseVerdict | None


class CaseDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A case with everything that a reviewer sees of it."""

    case: CaseView
    transaction: dict[str, str] | None  # fields of the payload; null: it cannot be read, see `missing`
    history: tuple[CardTransaction, ...]  # of the card, newest first, without the case
    history_since_ms: int | None  # earlier transactions of the card are not listed
    profile_values: dict[str, float | None]  # as logged with the decision; null: missing
    missing: tuple[str, ...]  # what could not be read, a sentence each


class VerdictForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a verdict."""

    verdict: Opinion
