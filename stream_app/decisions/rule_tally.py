"""What rules and lists did in a batch, by name, for metrics. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np

from scoring.arrays import Ints
from scoring.decision import DECIDERS
from scoring.rules.precedence import RuleTable, Ruling


class RuleTally(NamedTuple):
    """Numbers of transactions."""

    deciders: Counter[str]  # by `Decision.decided_by`
    matched: Counter[tuple[str, str]]  # by rule and mode
    unknown: Counter[str]  # by rule: a value that it needs is missing
    snoozed: Counter[str]  # by rule: it would match, but is snoozed for a value of the transaction
    entries: Counter[tuple[str, str]]  # by list and effect, of entries with an effect of their own
    omitted: int  # matches that a decision does not name, because it has too many

    @classmethod
    def of(cls, ruling: Ruling, table: RuleTable | None) -> Self:
        """The tally of a batch. table: of the ruleset in force."""
        deciders = dict(zip(DECIDERS, np.bincount(ruling.deciders, minlength=len(DECIDERS)).tolist(), strict=True))
        tally = cls(Counter(deciders), Counter(), Counter(), Counter(), Counter(), ruling.omitted)
        if ruling.counts is not None and table is not None:
            rules, counts = table.matches, ruling.counts
            tally.matched.update({(rules[i].name, rules[i].mode): n for i, n in _positive(counts.matched)})
            tally.unknown.update({rules[i].name: n for i, n in _positive(counts.unknown)})
            tally.snoozed.update({rules[i].name: n for i, n in _positive(counts.snoozed)})
        codes = np.bincount(ruling.matches.codes, minlength=len(ruling.matches.table))
        for match, n in zip(ruling.matches.table, codes.tolist(), strict=True):
            if match.kind == "list":
                tally.entries[match.name, match.effect] += n
        return tally

    @classmethod
    def sum(cls, tallies: Iterable["RuleTally"]) -> Self:
        """The tally of several batches."""
        total, omitted = cls(Counter(), Counter(), Counter(), Counter(), Counter(), 0), 0
        for tally in tallies:
            total.deciders.update(tally.deciders)
            total.matched.update(tally.matched)
            total.unknown.update(tally.unknown)
            total.snoozed.update(tally.snoozed)
            total.entries.update(tally.entries)
            omitted += tally.omitted
        return total._replace(omitted=omitted)


def _positive(counts: Ints) -> list[tuple[int, int]]:
    return [(row, int(counts[row])) for row in np.flatnonzero(counts).tolist()]
