"""`tamiz models`: which versions there are, who decides, and how that came about."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from schemas.configuration.settings import Settings
    from schemas.promotion_log import VersionTransition
    from training.registry.version_transitions import Version

Json = Annotated[bool, typer.Option("--json", help="For machines: the records, on stdout.")]
Why = Annotated[str, typer.Option(help="Why; it is kept for good.", metavar="WHY")]
Number = Annotated[int, typer.Argument(help="Model version.", min=1, show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="See and move model versions: champion, challenger, history.")
    app.add_typer(models, name="models")

    @models.command("list")
    def list_(as_json: Json = False) -> None:
        """Show every registered version, newest first: what it is now, what the gate said, and its last move."""
        from tamiz.terminal import say_json, warn
        from training.registry.version_transitions import alias_disagreement, versions

        settings = config.load()
        found = versions(settings)
        if as_json:
            say_json(found)
        else:
            _show_versions(found)
        if (why := alias_disagreement(settings)) is not None:
            warn(f"{why}; the next move sets the alias, `tamiz models promote VERSION --reason WHY` at once")

    @models.command()
    def history(as_json: Json = False) -> None:
        """Show every move of a version, oldest first: who, when, why, and on what evidence."""
        from tamiz.terminal import say_json
        from training.registry import version_transitions

        made = version_transitions.history(config.load())
        if as_json:
            say_json(made)
        else:
            _show_moves(made)

    @models.command()
    def promote(version: Number, reason: Why, as_json: Json = False) -> None:
        """Make VERSION champion by a person's word, also what waits for approval; it must have shown skill."""
        from training.registry.promotion import promote_by_hand

        settings = config.load()
        _tell(settings, promote_by_hand(settings, version, reason), as_json)

    @models.command()
    def reject(version: Number, reason: Why, as_json: Json = False) -> None:
        """Mark VERSION as refused; it is challenger no more."""
        from training.registry import version_transitions

        settings = config.load()
        _tell(settings, version_transitions.reject(settings, version, reason), as_json)

    @models.command()
    def rollback(reason: Why, as_json: Json = False) -> None:
        """Make the champion before this one champion again."""
        from training.registry import version_transitions

        settings = config.load()
        _tell(settings, version_transitions.rollback(settings, reason), as_json)


def _tell(settings: "Settings", move: "VersionTransition", as_json: bool) -> None:
    from tamiz.services.event_publisher import publish_event
    from tamiz.terminal import say, say_json, warn

    warning = publish_event(settings, [move.event(settings.model_name)])
    if as_json:
        say_json(move)
    else:
        before = "nobody" if move.previous is None else f"version {move.previous}"
        was = {
            "promoted": f"is champion; before it, {before}",
            "rolled-back": f"is champion again; {before} is not any more",
            "rejected": f"is rejected; champion is {before}",
        }
        say(f"{settings.model_name} version {move.version} {was[move.change]}")
    if warning:
        warn(warning)


def _show_versions(found: "list[Version]") -> None:
    from rich.table import Table

    from tamiz.terminal import Terminal

    table = Table()
    for head in ("version", "is", "last move", "when (UTC)", "skill gate"):
        table.add_column(head, justify="right" if head == "version" else "left", no_wrap=head != "skill gate")
    for v in found:
        move = f"{v.last.change} by {v.last.by}" if v.last else "registered"
        when = v.last.at if v.last else datetime.fromtimestamp(v.registered_at_ms / 1000, UTC).isoformat()
        gate = (v.verdict or "–") + (f"; forced: {v.forced}" if v.forced else "")
        style = {"champion": "bold", "rejected": "dim"}.get(v.status)
        table.add_row(str(v.version), v.status, move, _minute(when), gate, style=style)
    Terminal().print(table if found else "no version is registered yet; `tamiz train FILE` makes one")


def _show_moves(made: "list[VersionTransition]") -> None:
    from rich.padding import Padding
    from rich.text import Text

    from tamiz.terminal import Terminal

    console = Terminal()
    for m in made:
        before = "" if m.previous is None else f"; champion until then: version {m.previous}"
        loop = f"; {m.correlation_id}" if m.correlation_id else ""
        moved = (f"version {m.version} {m.change}", "bold")
        console.print(Text.assemble(f"{_minute(m.at)} UTC  ", moved, f" by {m.by}{before}{loop}"))
        for text in dict.fromkeys((m.reason, m.evidence)):
            if text:
                console.print(Padding(text, (0, 0, 0, 4)))
    if not made:
        console.print("nothing has moved yet")


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")
