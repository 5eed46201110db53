"""`tamiz lists`: add, remove, import and list the values of lists."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.rules import ListEntry

EntryEffect = Literal["block", "allow", "decline", "challenge", "review", "snooze"]
MAX_ROWS = 50  # entries on a terminal

Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
Reason = Annotated[str, typer.Option(help="Reason, kept with the entry.", metavar="REASON")]
Name = Annotated[str, typer.Argument(help="Name of the list.", metavar="LIST", show_default=False)]
FieldName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Field of the values; without, the card holder.", show_default=False)
]
Effect = Annotated[
    EntryEffect | None,
    typer.Option(help='What an entry does by itself; without, only rules look it up: list("NAME").'),
]
RuleId = Annotated[
    str | None, typer.Option(metavar="ID", help="With --effect snooze: the rule that does not match these values.")
]
Until = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="Expiry, by event time: 24h, 30d, or a time (UTC). Without: until removed."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    lists = typer.Typer(no_args_is_help=True, help="Add, remove, import and list the values of lists.")
    app.add_typer(lists, name="lists")
    lists.command()(add)
    lists.command()(remove)
    lists.command("import")(import_)
    lists.command("list")(list_)


def add(
    name: Name,
    reason: Reason,
    values: Annotated[
        list[str] | None, typer.Argument(help="Values to add.", metavar="VALUE...", show_default=False)
    ] = None,
    field: FieldName = None,
    effect: Effect = None,
    rule: RuleId = None,
    until: Until = None,
    from_alert: Annotated[
        str | None, typer.Option(metavar="ID", help="Add the cards that the alerts of this incident name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add values to LIST. The next transaction of each meets it within a second.

    A list is made by its first entry. A value that is on it is replaced.

        tamiz lists add stolen 4711 --effect block --reason "reported by phone"
        tamiz lists add stolen --from-alert ID --effect block --reason "attack"
        tamiz lists add trip 4711 --effect snooze --rule abroad --reason trip

    Read on: docs/rules.md.
    """
    from schemas.errors import RuleError
    from stream_app.rules.list_records import cards_of_alert

    settings = config.load()
    found = list(values or ())
    if from_alert is not None:
        found += cards_of_alert(settings, from_alert)
    if not found:
        raise RuleError("no value to add; give values, or --from-alert ID")
    rows = [(value, reason, until) for value in dict.fromkeys(found)]
    _write(name, field, rows, effect=effect, rule=rule, as_json=as_json)


def remove(
    name: Name,
    values: Annotated[list[str], typer.Argument(help="Values to remove.", metavar="VALUE...", show_default=False)],
    reason: Reason,
    field: FieldName = None,
    rule: Annotated[str | None, typer.Option(metavar="ID", help="Of a snooze: its rule.")] = None,
    as_json: Json = False,
) -> None:
    """Remove values from LIST.

    Example:

        tamiz lists remove stolen 4711 --reason "card was found"

    Read on: docs/rules.md.
    """
    import time

    import msgspec

    from schemas.dataset.declaration import load_dataset
    from schemas.errors import RuleError
    from schemas.security.actor import os_actor
    from stream_app.rules.list_records import check_entries, entries_on_lists, read_list_entries, write_list_entries
    from tamiz.terminal import say, say_json

    settings = config.load()
    dataset = load_dataset(settings.dataset)
    now_ms, own_field = int(time.time() * 1000), _field(field)
    on_lists = {
        (e.list, e.field, e.value, e.rule): e
        for e in entries_on_lists([entry for _, entry in read_list_entries(settings)], -(2**62))
    }
    gone: list[ListEntry] = []
    probes = [_entry(name, own_field, value, "", None, rule, "snooze" if rule else None) for value in values]
    for probe in check_entries(dataset, probes):
        entry = on_lists.get((name, own_field, probe.value, rule))
        if entry is None:
            raise RuleError(f"{own_field} {probe.value!r} is not on list {name!r}; `tamiz lists list {name}` shows it")
        gone.append(msgspec.structs.replace(entry, removed=True, reason=reason, by=os_actor(), at_ms=now_ms))
    written = write_list_entries(settings, dataset, gone)
    if as_json:
        say_json(written)
    else:
        say(f"{name}: {len(written):,} removed")


def import_(
    file: Annotated[Path, typer.Argument(help="CSV file with a header.", metavar="FILE", show_default=False)],
    name: Annotated[str, typer.Option("--list", metavar="LIST", help="Name of the list.")],
    reason: Reason,
    field: FieldName = None,
    effect: Effect = None,
    rule: RuleId = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Add the values of a CSV file to LIST.

    The column has the field's name; the columns `reason` and `until`, where
    they are, replace the options. Nothing is written if a row is not valid.
    Importing a file again changes nothing.

        tamiz lists import stolen.csv --list stolen --effect block \
            --reason "list of the association, October"

    Read on: docs/rules.md.
    """
    from tamiz.services.list_file import read_list_file

    rows = [(row.value, row.reason or reason, row.until or until) for row in read_list_file(file, _field(field))]
    _write(name, field, rows, effect=effect, rule=rule, as_json=as_json)


def list_(
    name: Annotated[str | None, typer.Argument(help="Name of one list.", metavar="LIST", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List all lists, or the entries of LIST, latest first. Expired ones are left out.

    Example:

        tamiz lists list stolen

    Read on: docs/rules.md.
    """
    import time

    from stream_app.rules.list_records import entries_on_lists, read_list_entries
    from tamiz.terminal import say_json

    entries = entries_on_lists([e for _, e in read_list_entries(config.load())], int(time.time() * 1000))
    if name is not None:
        entries = [entry for entry in reversed(entries) if entry.list == name]
    if as_json:
        say_json(entries)
    elif name is None:
        _print_lists(entries)
    else:
        _print_entries(name, entries)


def _field(named: str | None) -> str:
    from schemas.dataset.declaration import load_dataset
    from schemas.errors import RuleError

    dataset = load_dataset(config.load().dataset)
    if (found := named or dataset.key) is None:
        raise RuleError(f"the data set {dataset.name!r} declares no card holder; name the field with --field")
    return found


def _entry(
    name: str, field: str, value: str, reason: str, until: str | None, rule: str | None, effect: EntryEffect | None
) -> "ListEntry":
    import time

    from schemas.rules import ListEntry
    from schemas.security.actor import os_actor
    from tamiz.services.list_file import expiry_ms

    now_ms = int(time.time() * 1000)
    return ListEntry(
        list=name,
        field=field,
        value=value,
        effect=effect,
        rule=rule,
        reason=reason,
        by=os_actor(),
        at_ms=now_ms,
        until_ms=None if until is None else expiry_ms(until, now_ms),
    )


def _write(
    name: str,
    field: str | None,
    rows: "Iterable[tuple[str, str, str | None]]",
    *,
    effect: EntryEffect | None,
    rule: str | None,
    as_json: bool,
) -> None:
    """rows: value, reason and expiry of each entry."""
    from schemas.dataset.declaration import load_dataset
    from stream_app.rules.list_records import write_list_entries
    from tamiz.terminal import Terminal, progress_line, say, say_json

    settings, own_field = config.load(), _field(field)
    entries = [_entry(name, own_field, value, reason, until, rule, effect) for value, reason, until in rows]
    with progress_line(Terminal(stderr=True)) as progress:
        written = write_list_entries(
            settings,
            load_dataset(settings.dataset),
            entries,
            lambda done: progress(f"writing {settings.lists_topic}", done, len(entries)),
        )
    if as_json:
        say_json(written)
    else:
        what = f"snooze of rule {rule}" if effect == "snooze" else effect or "for rules"
        say(f"{name}: {len(written):,} of field {own_field} added; {what}")


def _print_lists(entries: "Sequence[ListEntry]") -> None:
    from collections import Counter

    from rich.table import Table

    from tamiz.terminal import Terminal

    if not entries:
        Terminal().print("no list has an entry; `tamiz lists add LIST VALUE --reason REASON`", soft_wrap=True)
        return
    table = Table("list", "field", "effect", "rule", "entries")
    counts = Counter((e.list, e.field, e.effect or "for rules", e.rule or "") for e in entries)
    for row, n in sorted(counts.items()):
        table.add_row(*row, f"{n:,}")
    Terminal().print(table)


def _print_entries(name: str, entries: "Sequence[ListEntry]") -> None:
    from rich.table import Table

    from tamiz.services.backtest_report import minute
    from tamiz.terminal import Terminal

    console = Terminal()
    table = Table("field", "value", "effect", "until (UTC)", "added (UTC)", "by", "reason")
    for e in entries[:MAX_ROWS]:
        effect = f"snooze {e.rule}" if e.rule else e.effect or "for rules"
        until = "" if e.until_ms is None else minute(e.until_ms)
        table.add_row(e.field, e.value, effect, until, minute(e.at_ms), e.by, e.reason)
    console.print(table if entries else f"list {name} has no entries")
    if len(entries) > MAX_ROWS:
        console.print(f"and {len(entries) - MAX_ROWS:,} more; --json prints all", soft_wrap=True)
