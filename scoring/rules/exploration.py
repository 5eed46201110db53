"""Exploration: a random share of the declines goes to review, so that declines get labels, too. Pure.

The draw is a hash of the decision's id with the ruleset's seed: the same transaction is drawn again after a crash, in
an explanation and in a replay.
"""

from collections.abc import Callable
from hashlib import sha256

import numpy as np

from schemas.rules import Exploration
from scoring.arrays import Floats, Indices
from scoring.decision import DECIDERS, OUTCOMES, decision_id
from scoring.rules.precedence import Ruling

_DECLINE, _REVIEW = OUTCOMES.index("decline"), OUTCOMES.index("review")
_EXPLORATION = DECIDERS.index("exploration")


def is_drawn(exploration: Exploration, decision: str) -> bool:
    """Whether a declined transaction goes to review. decision: its decision id.

    >>> is_drawn(Exploration(share=1.0, below=100.0), "46dd113b-253c-5c14-bac3-de9eb24f61a2")
    True
    """
    digest = sha256(f"{exploration.seed}:{decision}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < exploration.share * 2.0**64


def explore(ruling: Ruling, exploration: Exploration, amounts: Floats, transaction: Callable[[int], str]) -> Ruling:
    """The ruling with a share of its declines sent to review; those by a block stay.

    amounts: shape (n,), NaN: missing, which is not explored. transaction: gives the id of a row.
    """
    eligible = (ruling.outcomes == _DECLINE) & (amounts < exploration.below)
    eligible[ruling.blocked] = False
    rows = np.flatnonzero(eligible).tolist()
    drawn: Indices = np.array([r for r in rows if is_drawn(exploration, decision_id(transaction(r)))], np.intp)
    if not len(drawn):
        return ruling
    outcomes, deciders = ruling.outcomes.copy(), ruling.deciders.copy()
    outcomes[drawn], deciders[drawn] = _REVIEW, _EXPLORATION
    return ruling._replace(outcomes=outcomes, deciders=deciders, exploration_share=exploration.share)
