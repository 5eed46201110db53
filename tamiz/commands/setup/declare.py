"""`tamiz declare`: draft the declaration of a data set from a file, and check a declaration against a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.declaration.declaration_check import DeclarationCheck
    from training.declaration.draft import Draft

MAX_SHOWN_FIELDS = 30  # of a row on a terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def declare(
        file: Annotated[Path, typer.Argument(help="Transactions as CSV, Parquet or JSON lines.", show_default=False)],
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Declaration to write, .toml. Default: FILE's name, in this folder."),
        ] = None,
        check: Annotated[
            str | None,
            typer.Option("--check", metavar="DECLARATION", help="Check FILE against this declaration instead."),
        ] = None,
        rows: Annotated[int, typer.Option(help="With --check: rows to show as they are read.", min=0, max=1000)] = 5,
        as_json: Annotated[bool, typer.Option("--json", help="With --check: print the result as JSON.")] = False,
    ) -> None:
        """Draft the declaration of a data set from a sample of FILE, for a person to check.

        The TOML file has the evidence for each guess as a comment, and every doubt.
        What no value decides is left undecided, and refused until you decide it.
        With --check: show what a declaration makes of FILE. The exit code is 1 if
        most rows are rejected, 2 if declaration or file are refused.

            tamiz declare history.csv --output cards.toml
            tamiz declare --check cards.toml history.csv

        Read on: docs/data-set.md.
        """
        if check is not None:
            _check(check, file, rows, as_json)
            return
        if as_json:
            raise typer.BadParameter("--json needs --check")
        _draft(file, output or Path(f"{file.stem}.toml"))


def _draft(file: Path, target: Path) -> None:
    from schemas.errors import TrainingError
    from schemas.files.atomic_write import atomic_write
    from tamiz.terminal import Terminal
    from training.declaration.draft import draft_declaration
    from training.declaration.draft_toml import render_draft
    from training.declaration.sample import read_sample

    if target.suffix != ".toml":
        raise typer.BadParameter(f"{target}: a declaration is a .toml file")
    if target.exists():
        raise TrainingError(f"{target} exists; name another file with --output, or remove it")
    with Terminal(stderr=True).status("reading …") as status:
        sample = read_sample(file, lambda share: status.update(f"reading … {share:.0%}"))
        status.update("inferring …")
        draft = draft_declaration(target.stem, sample)
    try:
        with atomic_write(target) as scratch:
            scratch.write_text(render_draft(draft, str(file), str(target)), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{target}: cannot be written: {error.strerror or error}") from None
    _print_draft(draft, file, target)


def _print_draft(draft: "Draft", file: Path, target: Path) -> None:
    from rich import box
    from rich.table import Table

    from tamiz.terminal import Terminal, say

    table = Table("declared", "as", "from", box=box.SIMPLE)
    time = draft.time
    roles = [
        ("key", draft.key.name),
        ("transaction_id", draft.transaction_id.name),
        ("label", draft.label.name if draft.label else None),
        ("amount", draft.amount.name),
        ("event_time", " ".join((*time.parts, time.hour or "")).strip() if time else None),
    ]
    for role, name in roles:
        table.add_row(role, "role", "–" if name is None else name)
    kinds: dict[str, list[str]] = {}
    for field in draft.fields:
        kinds.setdefault(str(field.kind), []).append(field.name)
    for kind, names in kinds.items():
        table.add_row(f"{len(names)} field{'s' if len(names) > 1 else ''}", kind, _listed(names))
    if draft.left_out:
        table.add_row(f"{len(draft.left_out)} columns", "left out", _listed([field.name for field in draft.left_out]))
    Terminal().print(table)
    for about, doubt in draft.doubts():
        say(f"doubt: {about}: {doubt}")
    undecided = list(dict.fromkeys(draft.undecided()))
    say(f"wrote {target}; check it line by line")
    if undecided:
        say(f"first decide: {', '.join(undecided)}")
    say(f"then: tamiz declare --check {target} {file}")


def _check(declaration: str, file: Path, rows: int, as_json: bool) -> None:
    from schemas.dataset.declaration import load_dataset
    from tamiz.terminal import Terminal, say, say_json
    from training.declaration.declaration_check import check_declaration

    dataset = load_dataset(declaration)
    with Terminal(stderr=True).status("reading …") as status:
        found = check_declaration(
            file, dataset, shown_rows=rows, progress=lambda step, share: status.update(f"{step} … {share:.0%}")
        )
    if as_json:
        say_json(found)
    else:
        _print_check(found)
    if found.is_refused:
        raise typer.Exit(1)
    if not as_json and dataset.label is not None:
        say(f"then: TAMIZ_DATASET={declaration} tamiz train {file}")


def _print_check(found: "DeclarationCheck") -> None:
    from rich import box
    from rich.table import Table

    from schemas.dataset.missing_columns import format_missing
    from tamiz.terminal import Terminal, say, warn

    console = Terminal()
    if found.first_rows:
        read = Table("row", "field", "raw", "read", box=box.SIMPLE, title="First rows", title_justify="left")
        for row in found.first_rows:
            for i, value in enumerate(row.values[:MAX_SHOWN_FIELDS]):
                read.add_row("" if i else str(row.row), value.field, value.raw, value.read or "–")
            if len(row.values) > MAX_SHOWN_FIELDS:
                read.add_row("", f"… {len(row.values) - MAX_SHOWN_FIELDS} more", "", "")
        console.print(read)
    fields = Table(box=box.SIMPLE)
    for name in ("field", "kind", "read, missing, rejected"):
        fields.add_column(name, no_wrap=True, max_width=24)
    fields.add_column("range; first value", overflow="fold")
    for field in found.fields:
        counts = ", ".join(f"{count:,}" for count in (field.read, field.missing, field.rejected))
        example = next(iter(field.examples), None)
        first = ""
        if example is not None:  # a profile has no raw value
            same = example.raw in ("", example.read)
            first = example.read if same else f"{example.raw} → {example.read}"
        span = "" if field.kind == "event time" else field.range  # is below the table
        fields.add_row(field.name, field.kind, counts, "; ".join(filter(None, (span, first))))
    console.print(fields)
    if found.rejections:
        rejected = Table("row", "line", "code", "field", "value", "expected", box=box.SIMPLE)
        for r in found.rejections:
            rejected.add_row(str(r.row), str(r.line or ""), r.code, r.field or "", r.value, r.expected)
        console.print(rejected)
        if found.rejected > len(found.rejections):
            say(f"… {found.rejected - len(found.rejections):,} more rejected rows")
    if found.absent_columns:
        warn(f"{format_missing(found.absent_columns)}; every value of it is missing")
    codes = ", ".join(f"{code} {count:,}" for code, count in found.codes.items())
    say(f"{found.file} as {found.dataset}: {found.rows:,} rows, {found.accepted:,} read, {found.rejected:,} rejected"
        f"{f' ({codes})' if codes else ''}")  # fmt: skip
    if found.first_event_time is not None:
        say(f"event times: {found.first_event_time} to {found.last_event_time}")
    if found.fraud_share is not None:
        say(f"fraud: {found.fraud_share:.2%} of the rows with a label")
    if found.is_refused:
        warn("most rows are rejected: correct the declaration, or name the right file")


def _listed(names: list[str], most: int = 12) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
