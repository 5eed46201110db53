"""Backtest of a ruleset: its rules on transactions that were decided already, with what is known of them. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np

from monitoring.performance.rule_statistics import LabelSums, RuleRows, RuleStatistics, RuleSums, rule_statistics
from schemas.records import TimeMs
from schemas.rules import RulesEvidence
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Indices, Ints
from scoring.decision import OUTCOMES
from scoring.rules.program import TRUE, UNKNOWN
from scoring.rules.ruleset import CompiledRuleset, RuleInputs

MAX_OVERLAPS = 5  # other rules of each rule, those with the most common matches


class RulesBacktest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `tamiz rules test`."""

    from_ms: TimeMs  # event time of the first transaction
    until_ms: TimeMs  # after that of the last one
    transactions: int  # tested
    undecided: int  # left out: without a decision on its topic
    unlogged: int  # left out: without the logged values of the declared profiles
    labelled: int  # transactions with an honest label
    frauds: int  # among them
    declined: int  # transactions that were declined: their labels are not honest
    explored: int  # would-be declines that went to review at random
    # Transactions by outcome, in the order of `scoring.decision.OUTCOMES`.
    model_outcomes: tuple[int, ...]  # of the model alone
    outcomes: tuple[int, ...]  # if all these rules were live, with the lists and without exploration
    rules: tuple[RuleStatistics, ...]

    @property
    def days(self) -> float:
        """Length of the period, in days of event time."""
        return (self.until_ms - self.from_ms) / DAY_MS

    def evidence(self) -> RulesEvidence:
        """What an activation states of the test."""
        return RulesEvidence(
            from_ms=self.from_ms,
            until_ms=self.until_ms,
            transactions=self.transactions,
            matches={rule.rule: rule.matches for rule in self.rules},
        )


class BacktestFold:
    """Sums of all rules over parts of the transactions, in any order."""

    def __init__(self, compiled: CompiledRuleset) -> None:
        self._compiled = compiled
        rules = compiled.rules
        n = len(rules)
        # An `allow` catches nothing that another rule would miss.
        self._catches = np.array([rule.mode == "live" and rule.effect != "allow" for rule in rules], np.bool_)
        self._tallies = [RuleSums()] * n
        self._overlaps = np.zeros((n, n), np.float64)
        self._frauds, self._legitimate = LabelSums(), LabelSums()
        self._declined = self._explored = self._n = 0
        self._model_outcomes, self._outcomes = np.zeros((2, len(OUTCOMES)), np.int64)
        self._first_ms, self._last_ms = 2**62, -(2**62)

    def update(self, inputs: RuleInputs, rows: RuleRows, model_outcomes: Indices, outcomes: Indices) -> None:
        """Add transactions. model_outcomes, outcomes: as of `RulesBacktest`, indices into `OUTCOMES`, shape (n,)."""
        times: Ints = inputs.event_time_ms
        if not len(times):
            return
        truth = self._compiled.evaluate(inputs)
        matches, unknown = truth == TRUE, truth == UNKNOWN
        catches = matches[self._catches].sum(axis=0, dtype=np.int64)
        for i, tally in enumerate(self._tallies):
            by_others = catches - (matches[i] & self._catches[i]) > 0
            self._tallies[i] = tally.plus(rows.tally(matches[i], unknown[i], by_others))
        common = matches.astype(np.float32)
        self._overlaps += common @ common.T
        frauds, legitimate = rows.label_sums(np.ones(len(times), np.bool_))
        self._frauds, self._legitimate = self._frauds.plus(frauds), self._legitimate.plus(legitimate)
        self._declined += int(np.count_nonzero(rows.declined))
        self._explored += int(np.count_nonzero(rows.weights != 1))
        self._n += len(times)
        self._model_outcomes += np.bincount(model_outcomes, minlength=len(OUTCOMES))
        self._outcomes += np.bincount(outcomes, minlength=len(OUTCOMES))
        self._first_ms = min(self._first_ms, int(times.min()))
        self._last_ms = max(self._last_ms, int(times.max()))

    def result(self, *, undecided: int = 0, unlogged: int = 0) -> RulesBacktest:
        """Statistics of all rules. undecided, unlogged: transactions that the caller left out."""
        from_ms, until_ms = (self._first_ms, self._last_ms + 1) if self._n else (0, 0)
        rules = self._compiled.rules
        return RulesBacktest(
            from_ms=from_ms,
            until_ms=until_ms,
            transactions=self._n,
            undecided=undecided,
            unlogged=unlogged,
            labelled=self._frauds.rows + self._legitimate.rows,
            frauds=self._frauds.rows,
            declined=self._declined,
            explored=self._explored,
            model_outcomes=tuple(self._model_outcomes.tolist()),
            outcomes=tuple(self._outcomes.tolist()),
            rules=tuple(
                rule_statistics(
                    tally,
                    rule=rule.id,
                    version=rule.version,
                    effect=rule.effect,
                    mode=rule.mode,
                    days=(until_ms - from_ms) / DAY_MS,
                    all_frauds=self._frauds,
                    overlaps=_largest(self._overlaps[i], i, [rule.id for rule in rules]),
                )
                for i, (rule, tally) in enumerate(zip(rules, self._tallies, strict=True))
            ),
        )


def _largest(common: Floats, own: int, names: Sequence[str]) -> dict[str, int]:
    """The other rules with the most common matches, by name."""
    order = [i for i in np.argsort(-common, kind="stable").tolist() if i != own and common[i] > 0]
    return {names[i]: int(common[i]) for i in order[:MAX_OVERLAPS]}
