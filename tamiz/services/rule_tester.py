"""`tamiz rules test`: rules on decided transactions, with the lists as they were at each decision."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from monitoring.performance.rule_backtest import BacktestFold, RulesBacktest
from monitoring.performance.rule_statistics import RuleRows
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.rules import ListEntry, RulesFile
from scoring.arrays import Indices, Ints
from scoring.decision import OUTCOMES
from scoring.rules.list_state import ListState
from scoring.rules.rule_decision import RuleContext, apply_rules
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import CompiledRuleset, RuleInputs, compile_ruleset
from stream_app.rules.list_records import read_list_entries
from tamiz.services.decided_transactions import DecidedTransactions, Progress, decide_file, read_decided_transactions
from training.data.chunk import rows_at

MAX_ROWS = 50_000  # evaluated at once
_APPROVE, _DECLINE = OUTCOMES.index("approve"), OUTCOMES.index("decline")


def backtest_rules(
    settings: Settings,
    dataset: Dataset,
    compiled: CompiledRuleset,
    *,
    from_ms: int | None = None,
    until_ms: int | None = None,
    file: Path | None = None,
    labels: Path | None = None,
    progress: Progress = lambda step, done, of: None,
) -> RulesBacktest:
    """Statistics of rules on the transactions with event times in [`from_ms`, `until_ms`).

    file: test on its rows instead of the topics, with empty lists. labels: its late labels.
    Raises TamizError if none can be tested, BrokerError if no broker responds.
    """
    if file is not None:
        decided = decide_file(
            settings, dataset, file, labels=labels, from_ms=from_ms, until_ms=until_ms, progress=progress
        )
        return backtest(dataset, compiled, decided, [], progress)
    entries = read_list_entries(settings)
    found = read_decided_transactions(settings, dataset, from_ms=from_ms, until_ms=until_ms, progress=progress)
    return backtest(dataset, compiled, found, entries, progress)


def backtest(
    dataset: Dataset,
    compiled: CompiledRuleset,
    found: DecidedTransactions,
    entries: Sequence[tuple[int, ListEntry]],
    progress: Progress = lambda step, done, of: None,
) -> RulesBacktest:
    """Statistics of rules on transactions. Pure.

    entries: records of `lists` with their timestamps, in order.
    """
    decisions, n = found.decisions, len(found.frauds)
    rows = RuleRows(
        flagged=decisions.model_outcomes != _APPROVE,
        declined=decisions.outcomes == _DECLINE,
        frauds=found.frauds,
        amounts=np.full(n, np.nan) if dataset.amount is None else found.cleaned.columns[dataset.amount],
        weights=decisions.weights,
    )
    all_live = _all_live(compiled, dataset)
    fold, done = BacktestFold(compiled), 0
    for at, lists in _segments(decisions.decided_at_ms, entries):
        part = rows_at(found.cleaned, at)
        inputs = RuleInputs(
            columns=part.columns,
            keys=part.keys,
            scores=decisions.scores[at],
            event_time_ms=part.event_time_ms,
            lists=lists.lookup(dataset.key, part.keys, part.columns, part.event_time_ms),
        )
        context = RuleContext(RuleState(None, all_live, lists), dataset, ())  # only exploration reads ids
        ruling = apply_rules(context, part, decisions.scores[at], decisions.model_outcomes[at])
        fold.update(inputs, RuleRows._make(c[at] for c in rows), decisions.model_outcomes[at], ruling.outcomes)
        done += len(at)
        progress("evaluating rules", done, n)
    return fold.result(undecided=found.undecided, unlogged=found.unlogged)


def _all_live(compiled: CompiledRuleset, dataset: Dataset) -> CompiledRuleset:
    rules = (rule if rule.mode == "off" else replace(rule, mode="live") for rule in compiled.content.rules)
    return compile_ruleset(RulesFile(rules=tuple(rules)), dataset)


def _segments(decided_at_ms: Ints, entries: Sequence[tuple[int, ListEntry]]) -> Iterator[tuple[Indices, ListState]]:
    """Rows in the order of their decisions, with the lists at that time."""
    order = np.argsort(decided_at_ms, kind="stable")
    # Position in `order` of the first decision after each entry; entries that none separates apply together.
    times = np.maximum.accumulate(np.array([at_ms for at_ms, _ in entries], np.int64))
    positions = np.searchsorted(decided_at_ms[order], times, side="right")
    lists, begin, applied = ListState(), 0, 0
    for end in [*np.unique(positions).tolist(), len(order)]:
        for start in range(begin, end, MAX_ROWS):
            yield order[start : min(start + MAX_ROWS, end)], lists
        more = int(np.searchsorted(positions, end, side="right"))
        if more > applied:
            lists = lists.updated(entry for _, entry in entries[applied:more])
        begin, applied = end, more
