"""`tamiz features check`: compare the logged values of profile features with replayed ones."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from scoring.profiles.feature_check import FeatureCheck, ValueDifference

ISO = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    features = typer.Typer(no_args_is_help=True, help="Check the logged values of profile features.")
    app.add_typer(features, name="features")

    @features.command()
    def check(
        since: Annotated[
            datetime | None,
            typer.Option("--from", formats=ISO, metavar="DATE", help="First event time to compare (UTC)."),
        ] = None,
        until: Annotated[
            datetime | None,
            typer.Option("--until", formats=ISO, metavar="DATE", help="End of the event times, exclusive (UTC)."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Replay the profiles of all transactions and compare them with `feature-log`.

        Workers log the values of the profile features with each decision, and
        training uses them. This command reads `transactions`, computes the
        same values again and compares them bit for bit, feature by feature,
        with an example of each difference. While no partition lags in event
        time, all must be equal.

        Not compared: decisions at which a partition lagged, transactions whose
        past has expired from the topic, and those without a record of the
        declared profiles. A difference means that the log was written by other
        code or that a record was forged: train from another source, and report
        it. The exit code is 1 if any value differs.

            tamiz features check --from 2026-10-01

        Read on: docs/respond.md.
        """
        from tamiz.services.feature_checker import check_logged_features
        from tamiz.terminal import Terminal, progress_line, say_json

        with progress_line(Terminal(stderr=True)) as progress:
            found = check_logged_features(config.load(), from_ms=_ms(since), until_ms=_ms(until), progress=progress)
        if as_json:
            say_json(found)
        else:
            _print_table(found)
        raise typer.Exit(0 if found.all_equal else 1)


def _ms(time: datetime | None) -> int | None:
    return None if time is None else int(time.replace(tzinfo=UTC).timestamp() * 1000)


def _print_table(found: "FeatureCheck") -> None:
    from rich.table import Table
    from rich.text import Text

    from tamiz.terminal import Terminal

    console = Terminal()
    verdict = "all equal" if found.all_equal else "values differ"
    parts = (
        (found.incomplete, "incomplete"),
        (found.missing, "not logged"),
        (found.undecided, "not decided yet"),
    )
    others = "".join(f", {n:,} {words}" for n, words in parts if n)
    console.print(f"{verdict}: {found.compared:,} of {found.transactions:,} transactions compared{others}")
    if found.records_of_other_profiles:
        console.print(f"{found.records_of_other_profiles:,} records of the log are of other profiles")
    table = Table("feature", "equal", "different", "missing", "example of a difference")
    for feature in found.features:
        colour = "red" if feature.different else ""
        table.add_row(
            feature.feature,
            f"{feature.equal:,}",
            Text(f"{feature.different:,}", colour),
            f"{feature.missing:,}",
            "" if feature.example is None else _example(feature.example),
        )
    console.print(table)


def _example(difference: "ValueDifference") -> str:
    logged, replayed = (
        "missing" if value is None else f"{value:.9g}" for value in (difference.logged, difference.replayed)
    )
    return f"{difference.transaction_id}: logged {logged}, replayed {replayed}"
