"""Outcome of a score (approve, review, challenge, decline), and the id of a decision."""

import uuid
from hashlib import sha1

import msgspec
import numpy as np

from schemas.errors import ModelIncompatibleError
from schemas.records import Decision
from scoring.arrays import Floats, Indices

UNREACHABLE_THRESHOLD = 1.01  # a threshold above every probability
OUTCOMES = ("approve", "review", "challenge", "decline")  # in order of severity
DECIDERS = ("model", "rule", "list", "exploration")
EXPLORATION_TEXT = "exploration: a random share of the declines goes to review"
DECISION_IDS = uuid.UUID("f7810325-5a11-50ee-ad6d-cefd1ddac460")  # UUIDv5 of "tamiz:decision" in the URL namespace
_WITHOUT_CHALLENGE = np.array([0, 1, 3])
_NAMESPACE = DECISION_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # sets the variant bits of RFC 9562


class OperatingPoints(msgspec.Struct, frozen=True, kw_only=True):
    """The score thresholds of the outcomes; training chooses them on held-out scores."""

    review: float  # minimum score for review
    decline: float  # minimum score for decline
    challenge: float | None = None  # minimum score for challenge; None: the model never challenges

    def __post_init__(self) -> None:
        """Raise ModelIncompatibleError if the points are negative or out of order; above 1, an outcome never occurs."""
        if not 0.0 <= self.review <= self.decline:
            raise ModelIncompatibleError(
                f"operating points must satisfy 0 <= review <= decline, not {self.review} and {self.decline}"
            )
        if self.challenge is not None and not self.review <= self.challenge <= self.decline:
            raise ModelIncompatibleError(
                f"operating point challenge is {self.challenge}; it must lie between review, {self.review}, "
                f"and decline, {self.decline}"
            )

    def named(self) -> tuple[tuple[str, float], ...]:
        """Outcome and minimum score of each point that is set, in the order of `OUTCOMES`."""
        challenge = () if self.challenge is None else (("challenge", self.challenge),)
        return (("review", self.review), *challenge, ("decline", self.decline))


def outcome_codes(scores: Floats, points: OperatingPoints) -> Indices:
    """Outcome of each score, as indices into `OUTCOMES`, shape (n,). scores: shape (n,).

    >>> outcome_codes(np.array([0.1, 0.5, 0.9]), OperatingPoints(review=0.5, decline=0.9)).tolist()
    [0, 1, 3]
    """
    if points.challenge is None:
        return _WITHOUT_CHALLENGE[np.searchsorted(np.array([points.review, points.decline]), scores, side="right")]
    return np.searchsorted(np.array([points.review, points.challenge, points.decline]), scores, side="right")


def thresholds(points: OperatingPoints) -> tuple[float, float, float, float]:
    """Minimum score of each outcome or a more severe one, in the order of `OUTCOMES`."""
    return (0.0, points.review, points.decline if points.challenge is None else points.challenge, points.decline)


def reason_texts(decision: Decision) -> tuple[str, ...]:
    """The reasons for an outcome, for people: first those of who decided. Matches in shadow are no reasons."""
    matches = [f"{m.kind} {m.name}: {m.reason}" for m in decision.matches if m.mode == "live"]
    of_score = [reason.text for reason in decision.reasons]
    if decision.decided_by in ("rule", "list"):
        return (*matches, *of_score)
    explored = [EXPLORATION_TEXT] if decision.decided_by == "exploration" else []
    return (*explored, *of_score, *matches)


def decision_id(transaction: str) -> str:
    """Id of a decision: UUIDv5 (RFC 9562) of the transaction id, the same after a redelivery and with any model.

    >>> decision_id("transactions-0-0")
    '46dd113b-253c-5c14-bac3-de9eb24f61a2'
    """
    # Same as `uuid.uuid5`, which takes ten times as long because it builds a UUID object first.
    digest = sha1(_NAMESPACE + transaction.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
