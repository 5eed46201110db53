"""How many transactions a labelled one represents. Pure.

Declined transactions get no honest label, except the random share of them that exploration sends to review. Each of
these represents 1/share transactions: itself, and those like it that were declined.
Source: Horvitz & Thompson (1952), A Generalization of Sampling Without Replacement From a Finite Universe, JASA 47.
"""

from schemas.records import Decision

MAX_LABEL_WEIGHT = 1_000_000.0  # bounds sums of squares; a smaller share draws next to nothing


def label_weight(decision: Decision) -> float:
    """The weight of a decision's label in statistics over all transactions: 1 unless the transaction was explored."""
    share = decision.exploration_share
    return 1.0 if share is None else min(1 / share, MAX_LABEL_WEIGHT)
