"""`tamiz rules`: check, test, activate, approve, list and roll back rules."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import Labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.rules import RulesetRecord
    from scoring.rules.ruleset_log import LoggedRuleset

ISO = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
Reason = Annotated[str, typer.Option(help="Reason, kept in the history.", metavar="REASON")]
File = Annotated[Path, typer.Argument(help="TOML file of rules.", metavar="RULES", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rules = typer.Typer(no_args_is_help=True, help="Check, test, activate, approve, list and roll back rules.")
    app.add_typer(rules, name="rules")
    rules.command()(check)
    rules.command("test")(backtest)
    rules.command()(activate)
    rules.command()(approve)
    rules.command("list")(list_)
    rules.command()(history)
    rules.command()(rollback)


def check(file: File, as_json: Json = False) -> None:
    """Check that every rule of RULES can be evaluated on the data set.

    Reads no topic. The first mistake ends it with one line: the rule, the
    place in its condition, the remedy.

        tamiz rules check rules.toml

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from scoring.rules.ruleset import compile_ruleset
    from tamiz.services.rules_file import read_rules_file
    from tamiz.terminal import say, say_json

    content = read_rules_file(file)
    compile_ruleset(content, load_dataset(config.load().dataset))
    if as_json:
        say_json(content)
        return
    for rule in content.rules:
        say(f"{rule.id} version {rule.version}: {rule.mode}, {rule.effect}")
    say(f"{file}: {len(content.rules)} {'rule' if len(content.rules) == 1 else 'rules'}, no mistake")


def backtest(
    file: File,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=ISO, metavar="DATE", help="First event time to test on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=ISO, metavar="DATE", help="End of the event times, exclusive (UTC)."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="Test on a labelled file instead of the topics.", show_default=False
        ),
    ] = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Test RULES on decided transactions: what would each rule have matched?

    Reads `transactions`, `decisions`, `labels`, `lists` and the values of the
    profile features that workers logged. Each rule is evaluated on exactly
    these values, with the lists as they were at each decision, in any
    mode (off: not at all).

    States for each rule the matches a day, precision and recall with 95 %
    intervals, the amounts of frauds and of legitimate transactions, what the
    model flags too, what only this rule finds, and the other rules that match
    the same. Only honest labels count: those of transactions that were not
    declined.

    A rule goes live only after this test on the topics. `--file FILE` tries
    rules on a history before there is a stream: the champion scores it now,
    lists are empty, and every label counts as honest.

        tamiz rules test rules.toml --from 2026-10-01

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from scoring.rules.ruleset import compile_ruleset
    from tamiz.services.backtest_report import print_backtest
    from tamiz.services.rule_tester import backtest_rules
    from tamiz.services.rules_file import read_rules_file
    from tamiz.services.tested_rulesets import keep_evidence
    from tamiz.terminal import Terminal, progress_line, say_json

    settings = config.load()
    content, dataset = read_rules_file(file), load_dataset(settings.dataset)
    compiled = compile_ruleset(content, dataset)
    with progress_line(Terminal(stderr=True)) as progress:
        found = backtest_rules(
            settings,
            dataset,
            compiled,
            from_ms=_ms(since),
            until_ms=_ms(until),
            file=history,
            labels=labels,
            progress=progress,
        )
    if history is None:
        keep_evidence(settings, content, found.evidence())
    if as_json:
        say_json(found)
    else:
        print_backtest(found)


def activate(
    file: File,
    reason: Reason,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Why a rule goes live without a test; kept in the history.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put RULES in force: the whole file replaces the rules before.

    Workers apply it within a second, without a restart. A rule in shadow has
    no effect and needs no test; a rule that goes live needs a test of
    `rules_min_test_days` on this machine, or `--force REASON`. Where a second
    person must approve (`rules_second_person`), this is a proposal.

        tamiz rules activate rules.toml --reason "card testing since Friday"

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from schemas.security.actor import os_actor
    from stream_app.rules.ruleset_records import activate_ruleset
    from tamiz.services.rules_file import read_rules_file
    from tamiz.services.tested_rulesets import find_evidence

    settings = config.load()
    content = read_rules_file(file)
    record = activate_ruleset(
        settings,
        load_dataset(settings.dataset),
        content,
        reason=reason,
        by=os_actor(),
        evidence=find_evidence(settings, content),
        force=force,
    )
    _print_change(record, as_json)


def approve(
    number: Annotated[int, typer.Argument(help="Number of the proposal.", min=1, show_default=False)],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Put the rules of proposal NUMBER in force.

    Another person than the one who proposed them, where
    `rules_second_person` is set. `tamiz rules list` shows what waits.

        tamiz rules approve 7 --reason "tested on four weeks, agreed"

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from schemas.security.actor import os_actor
    from stream_app.rules.ruleset_records import approve_ruleset

    settings = config.load()
    dataset = load_dataset(settings.dataset)
    _print_change(approve_ruleset(settings, dataset, number, reason=reason, by=os_actor()), as_json)


def list_(as_json: Json = False) -> None:
    """List the rules in force, and the proposals that wait for approval.

    Example:

        tamiz rules list

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from stream_app.rules.ruleset_records import read_ruleset_log
    from tamiz.terminal import say_json

    settings = config.load()
    found = read_ruleset_log(settings, load_dataset(settings.dataset))
    in_force = None if found.in_force is None else found.in_force.record
    waiting = [entry.record for entry in found.open_proposals()]
    if as_json:
        say_json({"in_force": in_force, "proposals": waiting})
    else:
        _print_rules(in_force, waiting)


def history(as_json: Json = False) -> None:
    """List every proposal, activation and rollback: who, when, why, test.

    Oldest first; also those that were refused, with the reason.

        tamiz rules history

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from stream_app.rules.ruleset_records import read_ruleset_log
    from tamiz.terminal import say_json

    settings = config.load()
    entries = read_ruleset_log(settings, load_dataset(settings.dataset)).entries
    if as_json:
        say_json([{"record": entry.record, "refused": entry.refused} for entry in entries])
    else:
        _print_history(entries)


def rollback(reason: Reason, as_json: Json = False) -> None:
    """Put the rules before the current ones in force again.

    Needs no test. Before the first rules, there are none.

        tamiz rules rollback --reason "reviews doubled within the hour"

    Read on: docs/rules.md.
    """
    from schemas.dataset.declaration import load_dataset
    from schemas.security.actor import os_actor
    from stream_app.rules.ruleset_records import roll_back_ruleset

    settings = config.load()
    dataset = load_dataset(settings.dataset)
    _print_change(roll_back_ruleset(settings, dataset, reason=reason, by=os_actor()), as_json)


def _ms(time: datetime | None) -> int | None:
    return None if time is None else int(time.replace(tzinfo=UTC).timestamp() * 1000)


def _minute(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _print_change(record: "RulesetRecord", as_json: bool) -> None:
    from tamiz.terminal import say, say_json

    if as_json:
        say_json(record)
    elif record.change == "proposed":
        say(f"record {record.number} waits for another person: `tamiz rules approve {record.number} --reason REASON`")
    else:
        restored = "" if record.restores is None else f", again as in record {record.restores}"
        say(f"record {record.number} is in force{restored if record.restores else ''}: {_modes(record)}")


def _modes(record: "RulesetRecord") -> str:
    modes = [rule.mode for rule in record.content.rules]
    counts = ", ".join(f"{modes.count(mode)} {mode}" for mode in ("live", "shadow", "off") if mode in modes)
    return counts or "no rules"


def _print_rules(in_force: "RulesetRecord | None", waiting: "Sequence[RulesetRecord]") -> None:
    from rich.table import Table

    from tamiz.terminal import Terminal

    console = Terminal()
    if in_force is None:
        console.print("no rules are in force; `tamiz rules activate FILE --reason REASON`", soft_wrap=True)
    else:
        console.print(f"record {_line(in_force)}", soft_wrap=True)
        table = Table("rule", "version", "mode", "effect", "condition", "reason")
        for rule in in_force.content.rules:
            style = {"live": "bold", "off": "dim"}.get(rule.mode)
            until = f" (until {rule.valid_until})" if rule.valid_until else ""
            table.add_row(
                rule.id, str(rule.version), rule.mode, rule.effect, " ".join(rule.when.split()), rule.reason + until,
                style=style,
            )  # fmt: skip
        console.print(table)
        if (explore := in_force.content.explore) is not None:
            console.print(f"explored: {explore.share:.1%} of the declines below {explore.below:g}", soft_wrap=True)
    for record in waiting:
        console.print(f"waits for approval: record {_line(record)}", style="yellow", soft_wrap=True)


def _print_history(entries: "Sequence[LoggedRuleset]") -> None:
    from rich.padding import Padding

    from tamiz.terminal import Terminal

    console = Terminal()
    for entry in entries:
        record = entry.record
        console.print(_line(record), soft_wrap=True)
        if record.proposal is not None:
            console.print(Padding(f"approves proposal {record.proposal}", (0, 0, 0, 4)))
        if (evidence := record.evidence) is not None:
            days = f"{_minute(evidence.from_ms)} to {_minute(evidence.until_ms)}"
            console.print(Padding(f"tested on {evidence.transactions:,} transactions, {days}", (0, 0, 0, 4)))
        if entry.refused is not None:
            console.print(Padding(f"refused: {entry.refused}", (0, 0, 0, 4)), style="red")
    if not entries:
        console.print("no rules were proposed or activated yet")


def _line(record: "RulesetRecord") -> str:
    what = "rolled back" if record.restores is not None and record.change == "activated" else record.change
    to = f" to record {record.restores}" if record.restores else ""
    return f"{record.number}, {what}{to} by {record.by}, {_minute(record.at_ms)} UTC: {_modes(record)}; {record.reason}"
