"""Precedence of rules, lists and the model over one transaction's outcome. Pure.

block > allow > decline > challenge > review. A match of block declines and one of allow approves, regardless of the
model. Of the other effects the strongest one counts, and the more severe of it and the model's outcome is the outcome.
Of an entry of a list and a rule with one effect, the entry comes first. Rules in shadow are recorded only.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np

from schemas.records import MAX_MATCHES, Effect, RuleMatch
from schemas.rules import Rule
from scoring.arrays import Array, Indices, Ints
from scoring.decision import DECIDERS, OUTCOMES
from scoring.rules.program import SNOOZED, TRUE, UNKNOWN

EFFECTS: tuple[Effect, ...] = get_args(Effect)  # strongest first
_OUTCOME_OF = {"block": "decline", "allow": "approve"}  # of every other effect: of its name
_SEVERITY = np.array([OUTCOMES.index(_OUTCOME_OF.get(effect, effect)) for effect in EFFECTS])
_OVERRIDES = np.array([effect in _OUTCOME_OF for effect in EFFECTS])  # the model
_KINDS = ("list", "rule")  # of matches with one effect, the order
_DECIDER_OF_KIND = np.array([DECIDERS.index(kind) for kind in _KINDS])
_SHADOW_RANK = len(EFFECTS) * len(_KINDS)


class RowMatches(NamedTuple):
    """The matches of n transactions: those of row i are `table[code]` for the codes up to `ends[i]`, in order."""

    codes: Indices  # indices into `table`
    ends: Ints  # shape (n,)
    table: Sequence[RuleMatch]

    @classmethod
    def none(cls, n: int) -> "RowMatches":
        """No matches."""
        return cls(np.zeros(0, np.intp), np.zeros(n, np.int64), ())

    def of_row(self, row: int) -> tuple[RuleMatch, ...]:
        """The matches of one transaction."""
        start = self.ends[row - 1] if row else 0
        return tuple(self.table[code] for code in self.codes[start : self.ends[row]].tolist())


class RuleTable(NamedTuple):
    """What precedence needs of a ruleset, made once."""

    rows: dict[str, int]  # by id: the rule's row in the array of truths
    matches: tuple[RuleMatch, ...]
    ranks: Indices

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> "RuleTable":
        """The table of these rules, in their order. A rule that is off never matches, so its entry is not read."""
        matches = tuple(
            RuleMatch(
                kind="rule",
                name=rule.id,
                version=rule.version,
                effect=rule.effect,
                mode="live" if rule.mode == "live" else "shadow",
                reason=rule.reason,
            )
            for rule in rules
        )
        return cls(
            {rule.id: i for i, rule in enumerate(rules)}, matches, np.array([_rank(m) for m in matches], np.intp)
        )


NO_RULES = RuleTable.of(())


class RuleCounts(NamedTuple):
    """How many transactions of a batch each rule matched, for metrics. By row of the array of truths."""

    matched: Ints  # live and shadow alike; without snoozed ones
    unknown: Ints
    snoozed: Ints


class Ruling(NamedTuple):
    """What rules, lists and the model decide for n transactions."""

    outcomes: Indices  # shape (n,), indices into `OUTCOMES`
    deciders: Indices  # shape (n,), indices into `DECIDERS`
    matches: RowMatches
    blocked: Indices  # rows that a block declines
    omitted: int = 0  # matches beyond `MAX_MATCHES` of a transaction, which its decision does not name
    counts: RuleCounts | None = None  # None: no ruleset
    ruleset: int | None = None  # number of the ruleset in force
    exploration_share: float | None = None  # None: no row is explored

    @classmethod
    def of_model(cls, outcomes: Indices) -> "Ruling":
        """The model decides alone."""
        n = len(outcomes)
        return cls(outcomes, np.zeros(n, np.intp), RowMatches.none(n), np.zeros(0, np.intp))


class EntryMatch(NamedTuple):
    """An entry of a list with an effect of its own, and the transactions that it matches."""

    rows: Indices
    match: RuleMatch


def decide_by_rules(
    model_outcomes: Indices,
    truth: Array,
    table: RuleTable,
    entries: Sequence[EntryMatch] = (),
) -> Ruling:
    """The outcomes of n transactions, who decided them and what matched.

    truth: of each rule for each transaction, shape (n_rules, n), from `CompiledRuleset.evaluate`.
    """
    n = len(model_outcomes)
    places = np.flatnonzero(truth == TRUE)
    n_rules = len(table.matches)
    counts = RuleCounts(
        _by_rule(places, n, n_rules),
        _by_rule(np.flatnonzero(truth == UNKNOWN), n, n_rules),
        _by_rule(np.flatnonzero(truth == SNOOZED), n, n_rules),
    )
    if not len(places) and not any(len(entry.rows) for entry in entries):
        return Ruling.of_model(model_outcomes)._replace(counts=counts)
    rules, rows = np.divmod(places, max(n, 1))
    # By name, so that the order of a transaction's matches does not depend on its batch.
    of_lists = sorted({e.match for e in entries}, key=lambda match: (match.name, match.reason))
    code_of = {match: n_rules + i for i, match in enumerate(of_lists)}
    matches = (*table.matches, *of_lists)
    ranks = np.concatenate([table.ranks, np.array([_rank(match) for match in of_lists], np.intp)])
    codes = np.concatenate([rules, *(np.full(len(e.rows), code_of[e.match]) for e in entries)])
    rows = np.concatenate([rows, *(e.rows for e in entries)])
    positions = np.empty(len(matches), np.intp)
    positions[np.argsort(ranks, kind="stable")] = np.arange(len(matches))
    order = _stable_order(positions[codes], len(matches))
    order = order[_stable_order(rows[order], n)]
    return _ruling(model_outcomes, rows[order], codes[order], ranks, matches)._replace(counts=counts)


def _ruling(
    model_outcomes: Indices, rows: Indices, codes: Indices, ranks: Indices, matches: Sequence[RuleMatch]
) -> Ruling:
    """rows, codes: of each match, by row, the strongest first."""
    n = len(model_outcomes)
    is_first = np.empty(len(rows), np.bool_)
    is_first[0] = True
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    places = np.arange(len(rows)) - np.repeat(firsts, np.diff(firsts, append=len(rows)))
    live = firsts[ranks[codes[firsts]] < _SHADOW_RANK]
    decided = rows[live]
    effects, kinds = np.divmod(ranks[codes[live]], len(_KINDS))
    of_rules, of_model = _SEVERITY[effects], model_outcomes[decided]
    by_rules = _OVERRIDES[effects] | (of_rules > of_model)
    outcomes, deciders = model_outcomes.copy(), np.zeros(n, np.intp)
    outcomes[decided[by_rules]] = of_rules[by_rules]
    deciders[decided[by_rules]] = _DECIDER_OF_KIND[kinds[by_rules]]
    kept = places < MAX_MATCHES
    codes = codes[kept]
    is_named = np.zeros(len(matches), np.bool_)
    is_named[codes] = True
    ends = np.bincount(rows[kept], minlength=n).cumsum()
    return Ruling(
        outcomes,
        deciders,
        RowMatches(is_named.cumsum()[codes] - 1, ends, [matches[code] for code in np.flatnonzero(is_named).tolist()]),
        decided[effects == EFFECTS.index("block")],
        len(kept) - int(np.count_nonzero(kept)),
    )


def _stable_order(values: Indices, end: int) -> Indices:
    """Stable order of integers from 0 to below `end`. NumPy sorts integers of 16 bits in linear time."""
    return np.argsort(values.astype(np.uint16) if end <= 2**16 else values, kind="stable")


def _rank(match: RuleMatch) -> int:
    if match.mode == "shadow":
        return _SHADOW_RANK
    return EFFECTS.index(match.effect) * len(_KINDS) + _KINDS.index(match.kind)


def _by_rule(places: Indices, n: int, n_rules: int) -> Ints:
    counts: Ints = np.bincount(places // max(n, 1), minlength=n_rules)
    return counts
