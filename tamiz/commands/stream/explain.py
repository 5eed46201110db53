"""`tamiz explain`: find one decision and reproduce it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from schemas.security.sanitizer import terminal

if TYPE_CHECKING:
    from schemas.records import Decision
    from stream_app.decisions.decision_explanation import Explanation
    from stream_app.rules.match_explanation import ExplainedMatch


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explain(
        named: Annotated[
            str, typer.Argument(metavar="ID", help="Id of a decision or of a transaction.", show_default=False)
        ],
        day: Annotated[
            datetime | None,
            typer.Option(
                "--day", formats=["%Y-%m-%d"], metavar="DATE", help="Day of the decision (UTC), so that less is read."
            ),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    ) -> None:
        """Find a decision and its transaction, and reproduce it with the same model version.

        Prints the payload, who decided, the matches of rules and lists with the
        values that they read, the logged profile features, score, threshold and
        reasons. Decisions that `decisions` no longer holds are looked up in the
        archive, if `archive_root` is set. If the transaction is gone, the
        decision is printed and not reproduced. The exit code is 1 if the
        reproduced decision differs in any bit.

            tamiz explain transactions-0-4711

        Read on: docs/respond.md.
        """
        from stream_app.decisions.decision_explanation import explain as find
        from tamiz.terminal import Terminal, progress_line, say_json

        settings = config.load()
        with progress_line(Terminal(stderr=True)) as progress:
            archive = None
            if settings.archive_root is not None:
                from tamiz.archive.archive_search import ArchiveSearch  # pyarrow and MLflow are slow to import

                archive = ArchiveSearch(settings, progress)
            progress(f"searching {settings.decisions_topic}")
            explanation = find(settings, named, day=day and day.date(), archive=archive)
        if as_json:
            say_json(explanation, indent=-1)
        else:
            _print_table(explanation)
        raise typer.Exit(1 if explanation.reproduced is False else 0)


def _decided_by(decision: "Decision") -> str:
    if decision.decided_by in ("rule", "list") and decision.matches:
        first = decision.matches[0]
        return f"{first.kind} {first.name}: {first.reason}"
    if decision.exploration_share is not None:
        return f"exploration: {decision.exploration_share:.2%} of the declines go to review, drawn at random"
    return f"the {decision.decided_by}"


def _match_cells(explained: "ExplainedMatch") -> tuple[str, str]:
    match = explained.match
    version = "" if match.version is None else f" version {match.version}"
    lines = [f"{match.effect}, {match.mode}: {match.reason}"]
    if explained.when is not None:
        lines.append(f"when {explained.when}")
    if explained.values:
        values = (
            (name, "missing" if x is None else x if isinstance(x, str) else f"{x:.7g}")
            for name, x in explained.values.items()
        )
        lines.append("with " + ", ".join(f"{name} {value}" for name, value in values))
    return terminal(f"{match.kind} {match.name}{version}"), "\n".join(map(terminal, lines))


def _print_table(explanation: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    from tamiz.terminal import Terminal

    decision = explanation.decision
    table = Table(title=f"Decision {decision.decision_id}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("transaction", f"{decision.transaction_id}, at {explanation.origin}")
    if explanation.archived:
        table.add_row("found in", "the archive")
    gone = Text(f"gone: {explanation.gone}", "yellow")
    table.add_row("payload", gone if explanation.transaction is None else explanation.transaction)
    table.add_row("outcome", decision.outcome)
    table.add_row("decided by", _decided_by(decision))
    table.add_row("model", f"{decision.model} version {decision.model_version}: {decision.model_outcome}")
    table.add_row("score", f"{decision.score:.6f}, threshold {decision.threshold:.6f}")
    if decision.ruleset is not None:
        table.add_row("ruleset", str(decision.ruleset))
    for explained in explanation.matches:
        table.add_row(*(Text(text) for text in _match_cells(explained)))
    features = explanation.profile_features
    for name, value in (features or {}).items():
        table.add_row(name, "missing" if value is None else f"{value:.7g}")
    if features == {}:
        table.add_row("profile features", "not logged, or no longer held; reproduced with missing values")
    for number, reason in enumerate(decision.reasons, 1):
        table.add_row(f"reason {number}", reason.text)
    match explanation.reproduced:
        case True:
            table.add_row("reproduced", "identical, bit for bit")
        case False:
            table.add_row("reproduced", Text(str(explanation.reproduction), "red"))
        case None:
            table.add_row("reproduced", Text("no: the transaction is gone", "yellow"))
    Terminal().print(table)
