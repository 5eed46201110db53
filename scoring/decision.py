"""Outcome of a score (approve, review, decline), and the id of a decision."""

import uuid
from hashlib import sha1

import msgspec
import numpy as np

from schemas.errors import ModelIncompatibleError
from scoring.arrays import Floats, Indices

UNREACHABLE_THRESHOLD = 1.01  # a threshold above every probability
OUTCOMES = ("approve", "review", "decline")
DECISION_IDS = uuid.UUID("f7810325-5a11-50ee-ad6d-cefd1ddac460")  # UUIDv5 of "tamiz:decision" in the URL namespace
_NAMESPACE = DECISION_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # sets the variant bits of RFC 9562


class OperatingPoints(msgspec.Struct, frozen=True, kw_only=True):
    """The two score thresholds of the outcomes; training chooses them on held-out scores."""

    review: float  # minimum score for review
    decline: float  # minimum score for decline

    def __post_init__(self) -> None:
        """Raise ModelIncompatibleError if the points are negative or out of order; above 1, an outcome never occurs."""
        if not 0.0 <= self.review <= self.decline:
            raise ModelIncompatibleError(
                f"operating points must satisfy 0 <= review <= decline, not {self.review} and {self.decline}"
            )


def outcome_codes(scores: Floats, points: OperatingPoints) -> Indices:
    """Outcome of each score, as indices into `OUTCOMES`, shape (n,). scores: shape (n,).

    >>> outcome_codes(np.array([0.1, 0.5, 0.9]), OperatingPoints(review=0.5, decline=0.9)).tolist()
    [0, 1, 2]
    """
    return np.searchsorted(np.array([points.review, points.decline]), scores, side="right")


def thresholds(points: OperatingPoints) -> tuple[float, float, float]:
    """Minimum score of each outcome, in the order of `OUTCOMES`."""
    return (0.0, points.review, points.decline)


def decision_id(transaction: str) -> str:
    """Id of a decision: UUIDv5 (RFC 9562) of the transaction id, the same after a redelivery and with any model.

    >>> decision_id("transactions-0-0")
    '46dd113b-253c-5c14-bac3-de9eb24f61a2'
    """
    # Same as `uuid.uuid5`, which takes ten times as long because it builds a UUID object first.
    digest = sha1(_NAMESPACE + transaction.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
