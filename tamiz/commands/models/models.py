"""`tamiz models`: list model versions, their history, and promote, reject or roll back one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from schemas.configuration.settings import Settings
    from schemas.promotion_log import VersionTransition
    from training.registry.version_transitions import Version

Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
Reason = Annotated[str, typer.Option(help="Reason, kept in the history.", metavar="REASON")]
Number = Annotated[int, typer.Argument(help="Model version.", min=1, show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="List, promote, reject and roll back model versions.")
    app.add_typer(models, name="models")

    @models.command("list")
    def list_(as_json: Json = False) -> None:
        """List the registered versions, newest first: status, last transition, skill gate.

        Example:

            tamiz models list

        Read on: docs/approve.md.
        """
        from tamiz.terminal import say_json, warn
        from training.registry.version_transitions import registry_inconsistency, versions

        settings = config.load()
        listed = versions(settings)
        if as_json:
            say_json(listed)
        else:
            _print_versions(listed)
        if (problem := registry_inconsistency(settings)) is not None:
            warn(f"{problem}; `tamiz models promote VERSION --reason REASON` sets the alias again")

    @models.command()
    def history(as_json: Json = False) -> None:
        """List every promotion, rejection and rollback, oldest first: who, when, why, evidence.

        Example:

            tamiz models history

        Read on: docs/approve.md.
        """
        from tamiz.terminal import say_json
        from training.registry import version_transitions

        transitions = version_transitions.history(config.load())
        if as_json:
            say_json(transitions)
        else:
            _print_history(transitions)

    @models.command()
    def promote(version: Number, reason: Reason, as_json: Json = False) -> None:
        """Make VERSION the champion. It must have passed the skill gate.

        Also approves a version that waits for approval. Workers switch to it
        without a restart.

            tamiz models promote 2 --reason "better recall on the backtest"

        Read on: docs/approve.md.
        """
        from training.registry.promotion import promote_manually

        settings = config.load()
        _publish_and_print(settings, promote_manually(settings, version, reason), as_json)

    @models.command()
    def reject(version: Number, reason: Reason, as_json: Json = False) -> None:
        """Reject VERSION. It is no longer the challenger.

        Example:

            tamiz models reject 2 --reason "flags too many foreign payments"

        Read on: docs/approve.md.
        """
        from training.registry import version_transitions

        settings = config.load()
        _publish_and_print(settings, version_transitions.reject(settings, version, reason), as_json)

    @models.command()
    def rollback(reason: Reason, as_json: Json = False) -> None:
        """Make the previous champion the champion again.

        Example:

            tamiz models rollback --reason "complaints since this morning"

        Read on: docs/approve.md.
        """
        from training.registry import version_transitions

        settings = config.load()
        _publish_and_print(settings, version_transitions.rollback(settings, reason), as_json)


def _publish_and_print(settings: "Settings", move: "VersionTransition", as_json: bool) -> None:
    from tamiz.services.event_publisher import publish_event
    from tamiz.terminal import say, say_json, warn

    warning = publish_event(settings, [move.event(settings.model_name)])
    if as_json:
        say_json(move)
    else:
        previous = "none" if move.previous is None else f"version {move.previous}"
        outcome = {
            "promoted": f"is champion; previous champion: {previous}",
            "rolled-back": f"is champion again; previous champion: {previous}",
            "rejected": f"is rejected; champion: {previous}",
        }
        say(f"{settings.model_name} version {move.version} {outcome[move.change]}")
    if warning:
        warn(warning)


def _print_versions(listed: "list[Version]") -> None:
    from rich.table import Table

    from tamiz.terminal import Terminal

    table = Table()
    for head in ("version", "status", "last transition", "when (UTC)", "skill gate"):
        table.add_column(head, justify="right" if head == "version" else "left", no_wrap=head != "skill gate")
    for v in listed:
        move = f"{v.last.change} by {v.last.by}" if v.last else "registered"
        when = v.last.at if v.last else datetime.fromtimestamp(v.registered_at_ms / 1000, UTC).isoformat()
        gate = (v.gate_status or "–") + (f"; forced: {v.forced}" if v.forced else "")
        style = {"champion": "bold", "rejected": "dim"}.get(v.status)
        table.add_row(str(v.version), v.status, move, _minute(when), gate, style=style)
    Terminal().print(table if listed else "no version is registered yet; `tamiz train FILE` registers one")


def _print_history(transitions: "list[VersionTransition]") -> None:
    from rich.padding import Padding
    from rich.text import Text

    from tamiz.terminal import Terminal

    console = Terminal()
    for transition in transitions:
        previous = "" if transition.previous is None else f"; previous champion: version {transition.previous}"
        correlation = f"; {transition.correlation_id}" if transition.correlation_id else ""
        change = (f"version {transition.version} {transition.change}", "bold")
        by = f" by {transition.by}{previous}{correlation}"
        console.print(Text.assemble(f"{_minute(transition.at)} UTC  ", change, by))
        for text in dict.fromkeys((transition.reason, transition.evidence)):
            if text:
                console.print(Padding(text, (0, 0, 0, 4)))
    if not transitions:
        console.print("no version was promoted or rejected yet")


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")
