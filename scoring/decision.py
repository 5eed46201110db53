"""From score to outcome, and what a decision is called."""

import uuid
from hashlib import sha1

import msgspec
import numpy as np

from schemas.errors import ModelIncompatibleError
from scoring.arrays import Floats, Indices

NEVER = 1.01  # a threshold above every probability
OUTCOMES = ("approve", "review", "decline")
DECISION_IDS = uuid.UUID("f7810325-5a11-50ee-ad6d-cefd1ddac460")  # UUIDv5 of "tamiz:decision" among URLs
_NAMESPACE = DECISION_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # the two bits that RFC 9562 sets


class OperatingPoints(msgspec.Struct, frozen=True, kw_only=True):
    """The two scores at which the outcome changes; chosen in training, on validation rows only."""

    review: float  # this score and above: a person looks
    decline: float  # this score and above: no

    def __post_init__(self) -> None:
        """Refuse points that are out of order or out of [0, 1]; a decline above 1 means never."""
        if not 0.0 <= self.review <= self.decline:
            raise ModelIncompatibleError(
                f"operating points must satisfy 0 <= review <= decline, not {self.review} and {self.decline}"
            )


def outcome_codes(scores: Floats, points: OperatingPoints) -> Indices:
    """Indices into `OUTCOMES`, shape (n,), for scores of shape (n,).

    >>> outcome_codes(np.array([0.1, 0.5, 0.9]), OperatingPoints(review=0.5, decline=0.9)).tolist()
    [0, 1, 2]
    """
    return np.searchsorted(np.array([points.review, points.decline]), scores, side="right")


def thresholds(points: OperatingPoints) -> tuple[float, float, float]:
    """The lowest score of each outcome, in the order of `OUTCOMES`."""
    return (0.0, points.review, points.decline)


def decision_id(transaction: str) -> str:
    """UUIDv5 (RFC 9562) of the transaction id alone: a redelivery scored by a newer model is still recognised.

    >>> decision_id("transactions-0-0")
    '46dd113b-253c-5c14-bac3-de9eb24f61a2'
    """
    # As `uuid.uuid5`, which takes ten times as long over making an object that is then written out.
    digest = sha1(_NAMESPACE + transaction.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
