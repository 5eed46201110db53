"""The result of `tamiz rules test` as text."""

from datetime import UTC, datetime

from rich.padding import Padding

from monitoring.performance.rule_backtest import RulesBacktest
from monitoring.performance.rule_statistics import RuleStatistics
from schemas.rule_report import Estimate
from scoring.decision import OUTCOMES
from tamiz.terminal import Terminal


def minute(ms: int) -> str:
    """A time in ms since 1970, to the minute, UTC.

    >>> minute(1_600_000_000_000)
    '2020-09-13 12:26'
    """
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def print_backtest(found: RulesBacktest) -> None:
    """Write the result of `tamiz rules test` to the terminal."""
    console = Terminal()
    period = f"{minute(found.from_ms)} to {minute(found.until_ms)} UTC ({found.days:.1f} days)"
    console.print(f"{period}: {found.transactions:,} transactions", soft_wrap=True)
    share = f", {found.frauds / found.labelled:.2%} of them fraud" if found.labelled else ""
    explored = f", {found.explored:,} explored" if found.explored else ""
    console.print(
        f"{found.labelled:,} with an honest label{share}; {found.declined:,} declined{explored}", soft_wrap=True
    )
    left_out = [(found.undecided, "not decided yet"), (found.unlogged, "without logged values")]
    if others := ", ".join(f"{n:,} {why}" for n, why in left_out if n):
        console.print(f"left out: {others}", soft_wrap=True)
    changes = zip(OUTCOMES, found.model_outcomes, found.outcomes, strict=True)
    console.print(
        f"if all were live: {', '.join(f'{name} {now:,} (the model: {before:,})' for name, before, now in changes)}",
        soft_wrap=True,
    )
    for rule in found.rules:
        console.print()
        console.print(f"{rule.rule} version {rule.version}: {rule.mode}, {rule.effect}", style="bold", soft_wrap=True)
        for line in _lines(rule):
            console.print(Padding(line, (0, 0, 0, 4), expand=False))


def _lines(rule: RuleStatistics) -> list[str]:
    """What a test found of one rule."""
    if rule.mode == "off":
        return ["off: not evaluated"]
    unknown = f"; {rule.unknown:,} transactions lack a value that it needs" if rule.unknown else ""
    if not rule.matches:
        return [f"matches       none{unknown}"]
    lines = [
        f"matches       {rule.matches:,}, {rule.matches_a_day:,.1f} a day{unknown}",
        f"labels        {rule.frauds:,} fraud, {rule.legitimate:,} legitimate; "
        f"{rule.unlabelled_share or 0:.1%} without an honest one",
    ]
    if rule.precision is not None:
        recall = f"; recall {_percent(rule.recall)}" if rule.recall is not None else ""
        lines.append(f"precision     {_percent(rule.precision)}{recall}")
    amounts = [(rule.fraud_amount, "fraud"), (rule.legitimate_amount, "legitimate")]
    if known := "; ".join(f"{label} {_amount(amount)}" for amount, label in amounts if amount is not None):
        lines.append(f"amounts       {known}")
    lines.append(f"model         flags {rule.by_model_share or 0:.1%} of the matches too")
    alone = f"{rule.alone:,} matches: {rule.frauds_alone:,} fraud, {rule.legitimate_alone:,} legitimate"
    caught = "" if rule.fraud_amount_alone is None else f"; fraud amount {_amount(rule.fraud_amount_alone)}"
    lines.append(f"only this     {alone}{caught}")
    if rule.overlaps:
        lines.append(f"also match    {', '.join(f'{name} {n:,}' for name, n in rule.overlaps.items())}")
    return lines


def _percent(share: Estimate) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _amount(amount: Estimate) -> str:
    return f"{amount.value:,.0f} ({amount.low:,.0f} to {amount.high:,.0f})"
