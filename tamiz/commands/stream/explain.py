"""`tamiz explain`: why one transaction was decided as it was."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from stream_app.decisions.decision_explanation import Explanation


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
        from stream_app.decisions.decision_explanation import explain as find
        from tamiz.terminal import say_json

        explanation = find(config.load(), named)
        if as_json:
            say_json(explanation, indent=-1)
        else:
            _show(explanation)
        raise typer.Exit(0 if explanation.reproduced else 1)


def _show(explanation: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    from tamiz.terminal import Terminal

    decision = explanation.decision
    shown = Table(title=f"Decision {decision.decision_id}", show_header=False, title_justify="left")
    shown.add_column(style="bold")
    shown.add_column()
    shown.add_row("transaction", f"{decision.transaction_id}, at {explanation.origin}")
    shown.add_row("payload", explanation.transaction)
    shown.add_row("outcome", f"{decision.outcome}: score {decision.score:.6f}, from {decision.threshold:.6f}")
    shown.add_row("model", f"{decision.model} version {decision.model_version}")
    for number, reason in enumerate(decision.reasons, 1):
        shown.add_row(f"reason {number}", reason.text)
    same = Text("the same, bit for bit")
    shown.add_row("made again", same if explanation.reproduced else Text(str(explanation.again), "red"))
    Terminal().print(shown)
