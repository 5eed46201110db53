"""`tamiz explain`: why one transaction was decided as it was."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas import settings as config

if TYPE_CHECKING:
    from stream_app.explain import Explanation


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explain(
        named: Annotated[
            str, typer.Argument(metavar="ID", help="The decision's id, or its transaction's.", show_default=False)
        ],
        as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    ) -> None:
        """Find a decision and its transaction, and make it again with the model version that made it.

        Says whether score and reasons come out the same, bit for bit; if not, the exit code is 1.
        """
        import msgspec

        from stream_app.explain import explain as find

        explanation = find(config.load(), named)
        if as_json:
            print(msgspec.json.encode(explanation).decode())
        else:
            _show(explanation)
        raise typer.Exit(0 if explanation.reproduced else 1)


def _show(explanation: "Explanation") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    decision = explanation.decision
    shown = Table(title=f"Decision {decision.decision_id}", show_header=False, title_justify="left")
    shown.add_column(style="bold")
    shown.add_column()
    shown.add_row("transaction", f"{escape(decision.transaction_id)}, at {escape(explanation.origin)}")
    shown.add_row("payload", escape(explanation.transaction))
    shown.add_row("outcome", f"{decision.outcome}: score {decision.score:.6f}, from {decision.threshold:.6f}")
    shown.add_row("model", f"{decision.model} version {decision.model_version}")
    for number, reason in enumerate(decision.reasons, 1):
        shown.add_row(f"reason {number}", escape(reason.text))
    shown.add_row(
        "made again", "the same, bit for bit" if explanation.reproduced else f"[red]{explanation.again}[/red]"
    )
    Console().print(shown)
