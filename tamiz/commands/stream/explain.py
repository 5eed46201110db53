"""`tamiz explain`: find one decision and reproduce it."""

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
            str, typer.Argument(metavar="ID", help="Id of a decision or of a transaction.", show_default=False)
        ],
        as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    ) -> None:
        """Find a decision and its transaction, and reproduce it with the same model version.

        Prints the payload, the logged profile features, score, threshold and
        reasons. The exit code is 1 if the
        reproduced decision differs in any bit.

            tamiz explain transactions-0-4711

        Read on: docs/respond.md.
        """
        from stream_app.decisions.decision_explanation import explain as find
        from tamiz.terminal import say_json

        explanation = find(config.load(), named)
        if as_json:
            say_json(explanation, indent=-1)
        else:
            _print_table(explanation)
        raise typer.Exit(0 if explanation.reproduced else 1)


def _print_table(explanation: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    from tamiz.terminal import Terminal

    decision = explanation.decision
    table = Table(title=f"Decision {decision.decision_id}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("transaction", f"{decision.transaction_id}, at {explanation.origin}")
    table.add_row("payload", explanation.transaction)
    table.add_row("outcome", f"{decision.outcome}: score {decision.score:.6f}, threshold {decision.threshold:.6f}")
    table.add_row("model", f"{decision.model} version {decision.model_version}")
    features = explanation.profile_features
    for name, value in (features or {}).items():
        table.add_row(name, "missing" if value is None else f"{value:.7g}")
    if features == {}:
        table.add_row("profile features", "not in the feature log; reproduced with missing values")
    for number, reason in enumerate(decision.reasons, 1):
        table.add_row(f"reason {number}", reason.text)
    same = Text("identical, bit for bit")
    table.add_row("reproduced", same if explanation.reproduced else Text(str(explanation.reproduction), "red"))
    Terminal().print(table)
