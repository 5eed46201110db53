"""The review queue: flagged decisions without a label. A pure fold over `decisions` and `labels`.

    decisions ─▶ review, challenge, decline ─▶ waiting ─▶ judged
    labels ─────▶ fraud or not: judged; a reviewer is not sure: waits on, as unsure

Memory is bounded by number, for any input: the newest cases are kept, and the others are counted. A label that precedes
its decision is remembered for a while. There is no clock inside.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from schemas.records import Decision, Label, Outcome
from schemas.security.sanitizer import printable
from stream_app.reviews.review_messages import OPINIONS, CaseVerdict

MAX_WAITING = 10_000  # transactions sent to review
MAX_OTHERS = 5_000  # declined and challenged ones
MAX_JUDGED = 1_000  # kept so that their reviewer can correct the verdict
MAX_LABELS = 50_000  # of transactions that are not in the queue
MAX_TEXT_LENGTH = 400  # characters of a text in a response

Order = Literal["newest", "amount", "score"]
ORDERS: tuple[Order, ...] = get_args(Order)


class DecisionPlace(NamedTuple):
    """Where the decision of a case and its transaction are."""

    partition: int  # of both
    offset: int  # of the decision
    input_offset: int | None  # of the transaction; None: the record does not state it
    topic_id: str  # of the transactions topic; empty: not known

    def transaction(self, topic_id: str) -> tuple[int, int] | None:
        """Partition and offset of the transaction; None if they are not known, or of a topic that was recreated.

        topic_id: of the transactions topic as it is now.
        """
        if self.input_offset is None or (self.topic_id and self.topic_id != topic_id):
            return None
        return self.partition, self.input_offset


@dataclass(slots=True)
class ReviewCase:
    """One flagged decision."""

    decision: Decision
    key: bytes | None  # of the record: the card
    place: DecisionPlace
    decided_at_ms: int
    number: int  # of arrival
    amount: float | None = None
    looked_up: bool = False  # whether its transaction was read, or cannot be read
    verdict: CaseVerdict | None = None

    @property
    def card(self) -> str | None:
        """The key as printable text."""
        return None if self.key is None else printable(self.key.decode("utf-8", "replace"), MAX_TEXT_LENGTH)


class CaseFilter(NamedTuple):
    """Which cases are listed."""

    outcomes: frozenset[Outcome] = frozenset({"review"})
    unsure: bool = False  # the cases on which a reviewer was not sure, of any outcome, instead of those without a label
    card: str = ""  # exact
    rule: str = ""  # id of a rule or name of a list that matches, live or in shadow
    reason: str = ""  # part of the text of a reason, of the model's or a rule's

    def matches(self, case: ReviewCase) -> bool:
        """Whether a case of the queue is listed."""
        if self.unsure != (case.verdict is not None):
            return False
        if not self.unsure and case.decision.outcome not in self.outcomes:
            return False
        if self.card and case.card != self.card:
            return False
        matches = case.decision.matches
        if self.rule and all(match.name != self.rule for match in matches):
            return False
        texts = (*(r.text for r in case.decision.reasons), *(match.reason for match in matches))
        return not self.reason or any(self.reason.casefold() in text.casefold() for text in texts)


class ListedCases(NamedTuple):
    """Part of the queue."""

    cases: list[ReviewCase]
    matching: int  # on all pages
    next: str | None  # position after the last of them; None: there are no more


class ReviewQueue:
    """The fold. Not thread-safe: callers hold a lock."""

    def __init__(
        self, *, max_waiting: int = MAX_WAITING, max_others: int = MAX_OTHERS, max_labels: int = MAX_LABELS
    ) -> None:
        self._max = {True: max_waiting, False: max_others}
        self._max_labels = max_labels
        self._open: dict[bool, OrderedDict[str, ReviewCase]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }  # by: is review
        self._settled: OrderedDict[str, ReviewCase] = OrderedDict()
        self._ids: dict[str, str] = {}  # transaction id -> id of the case, of all cases above
        self._labels: OrderedDict[str, CaseVerdict] = OrderedDict()  # by transaction id, of transactions without a case
        self._n = 0
        self.cut = 0

    def add_decision(self, decision: Decision, key: bytes | None, place: DecisionPlace, decided_at_ms: int) -> None:
        """Add a decision. One that approves, and one with the id of an earlier one, is ignored."""
        known = decision.transaction_id in self._ids or self.find(decision.decision_id) is not None
        if decision.outcome == "approve" or known:
            return
        self._n += 1
        case = ReviewCase(decision, key, place, decided_at_ms, self._n)
        case.verdict = self._labels.pop(decision.transaction_id, None)
        self._ids[decision.transaction_id] = decision.decision_id
        if case.verdict is not None and case.verdict.verdict != "not-sure":
            self._keep_settled(case)
            return
        is_review = decision.outcome == "review"
        self._open[is_review][decision.decision_id] = case
        if len(self._open[is_review]) > self._max[is_review]:
            self._forget(self._open[is_review].popitem(last=False)[1])
            self.cut += 1

    def add_label(self, label: Label) -> None:
        """Add a label. Of two that say fraud or not, the later reported one holds; one that is not sure changes nothing
        after them.
        """
        verdict = CaseVerdict(verdict=OPINIONS[label.fraud], by=label.by, at_ms=label.reported_at_ms)
        case = self.find_transaction(label.transaction_id)
        if case is None:
            if _replaces(verdict, self._labels.get(label.transaction_id)):
                self._remember(label.transaction_id, verdict)
        elif _replaces(verdict, case.verdict):
            case.verdict = verdict
            if verdict.verdict != "not-sure" and case.decision.decision_id not in self._settled:
                del self._open[case.decision.outcome == "review"][case.decision.decision_id]
                self._keep_settled(case)

    def find(self, id_: str) -> ReviewCase | None:
        """The case of a decision: waiting, unsure or lately judged."""
        return self._open[True].get(id_) or self._open[False].get(id_) or self._settled.get(id_)

    def find_transaction(self, transaction_id: str) -> ReviewCase | None:
        """The case of a transaction."""
        return self.find(self._ids.get(transaction_id, ""))

    def verdict(self, transaction_id: str) -> CaseVerdict | None:
        """The label of a transaction, as far as it is remembered."""
        case = self.find_transaction(transaction_id)
        return self._labels.get(transaction_id) if case is None else case.verdict

    @property
    def waiting(self) -> int:
        """Number of transactions sent to review that have no label."""
        return sum(case.verdict is None for case in self._open[True].values())

    @property
    def unsure(self) -> int:
        """Number of cases on which a reviewer was not sure."""
        return sum(case.verdict is not None for case in self._cases())

    def not_looked_up(self, n: int) -> list[ReviewCase]:
        """The newest cases whose transaction was not read yet."""
        newest = (c for part in self._open.values() for c in reversed(part.values()) if not c.looked_up)
        return [case for case, _ in zip(newest, range(n), strict=False)]

    def listed(self, wanted: CaseFilter, order: Order, limit: int, after: str = "") -> ListedCases:
        """The first `limit` cases of an order after a position. Raises ValueError for a position of no page."""
        key = _KEYS[order]
        matching = [case for case in self._cases() if wanted.matches(case)]
        rest = matching
        if after:
            value, _, number = after.partition("~")
            begin = -float(value), -int(number)
            rest = [case for case in matching if (-key(case), -case.number) > begin]
        first = heapq.nsmallest(limit, rest, key=lambda case: (-key(case), -case.number))
        more = len(rest) > len(first) > 0
        return ListedCases(first, len(matching), f"{key(first[-1])!r}~{first[-1].number}" if more else None)

    def _cases(self) -> Iterator[ReviewCase]:
        yield from self._open[True].values()
        yield from self._open[False].values()

    def _keep_settled(self, case: ReviewCase) -> None:
        self._settled[case.decision.decision_id] = case
        if len(self._settled) > MAX_JUDGED:
            self._forget(self._settled.popitem(last=False)[1])

    def _forget(self, case: ReviewCase) -> None:
        """Keep of a case no more than its label."""
        del self._ids[case.decision.transaction_id]
        if case.verdict is not None:
            self._remember(case.decision.transaction_id, case.verdict)

    def _remember(self, transaction_id: str, verdict: CaseVerdict) -> None:
        self._labels[transaction_id] = verdict
        self._labels.move_to_end(transaction_id)
        if len(self._labels) > self._max_labels:
            self._labels.popitem(last=False)


def _replaces(verdict: CaseVerdict, known: CaseVerdict | None) -> bool:
    if known is None or known.verdict == "not-sure":
        return True
    return verdict.verdict != "not-sure" and verdict.at_ms >= known.at_ms


# The larger value comes first.
_KEYS: dict[Order, Callable[[ReviewCase], float]] = {
    "newest": lambda case: case.decided_at_ms,
    "amount": lambda case: -1e300 if case.amount is None else case.amount,  # unknown amounts come last
    "score": lambda case: case.decision.score,
}
