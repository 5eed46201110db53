"""`tamiz doctor`: check cluster, registry and machine for problems."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from tamiz.doctor.check_result import Finding

COLOURS = {"ok": "green", "not checked": "dim", "warning": "yellow", "problem": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(
        as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out checks that passed.")] = False,
    ) -> None:
        """Check the Kafka cluster, the registry and this machine for problems. Changes nothing.

        Each finding names what was seen and what to do. The exit code is 1 if
        there is a problem, 0 if there are only warnings.

            tamiz doctor --quiet

        Read on: docs/deployment.md.
        """
        from tamiz.doctor.examination import examine
        from tamiz.doctor.fact_collection import collect_facts
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        with Terminal(stderr=True).status("checking …") as status:
            findings = examine(settings, collect_facts(settings, status.update))
        listed = [finding for finding in findings if not (quiet and finding.status == "ok")]
        if as_json:
            say_json(listed)
        else:
            _print_table(listed)
        if any(finding.status == "problem" for finding in findings):
            raise typer.Exit(1)


def _print_table(findings: "list[Finding]") -> None:
    from collections import Counter

    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tamiz.doctor.check_result import merge_passed
    from tamiz.terminal import Terminal, say

    table = Table("", "check", "subject", "seen", "what to do", box=box.SIMPLE)
    for finding in merge_passed(findings):
        status = Text(finding.status, COLOURS[finding.status], no_wrap=True)
        table.add_row(status, finding.check, finding.subject, finding.seen, finding.remedy)
    Terminal().print(table)
    counts = Counter[str](finding.status for finding in findings)
    say(", ".join(f"{counts[status]} {status}" for status in COLOURS if counts[status]) or "no findings")
