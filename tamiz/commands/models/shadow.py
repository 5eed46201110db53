"""`tamiz shadow`: score live traffic with the champion and a challenger, and compare."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from rich.console import Group

    from monitoring.performance.shadow import ShadowReport


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def shadow(
        version: Annotated[
            int | None, typer.Option(help="Version to compare. Default: the registry's challenger.", min=1)
        ] = None,
        limit: Annotated[int | None, typer.Option(help="Stop after this many transactions.", min=1)] = None,
        from_beginning: Annotated[bool, typer.Option(help="Also read what the topic already holds.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON at the end.")] = False,
    ) -> None:
        """Score live transactions with the champion and a challenger, and show where they agree.

        Reads `transactions` outside the workers' consumer group: it commits
        nothing, publishes nothing and does not slow the workers. Profile features
        are those that the workers logged. Ctrl-C ends it and leaves the report on
        the screen.

            tamiz shadow --version 2 --limit 10000

        Read on: docs/approve.md.
        """
        import contextlib

        from rich.live import Live

        from monitoring.performance.shadow import Shadow
        from schemas.dataset.declaration import load_dataset
        from schemas.errors import ModelUnavailableError
        from stream_app.decisions.handler import HandlerPolicy, clean_records
        from stream_app.decisions.shadow_features import ShadowFeatures
        from stream_app.kafka.topic_reader import assigned
        from stream_app.worker.champion_cache import ChampionCache
        from tamiz.terminal import Terminal, say_json
        from training.registry import mlflow_registry

        settings = config.load()
        dataset = load_dataset(settings.dataset)
        policy = HandlerPolicy.from_settings(settings, dataset, counting=False)
        store = ChampionCache(settings, dataset)
        store.open()
        challenger = version or mlflow_registry.challenger(settings)
        if challenger is None:
            raise ModelUnavailableError(f"{settings.model_name} has no challenger; name a version with --version")
        comparison = Shadow(store.current, store.at_version(challenger))
        with (
            assigned(
                settings.bootstrap,
                settings.transactions_topic,
                from_beginning=from_beginning,
                keep_bytes=settings.max_payload_bytes,
            ) as consumer,
            ShadowFeatures(settings, dataset) as features,
            Live(_format_report(comparison.report()), console=Terminal(stderr=as_json), refresh_per_second=2) as live,
            contextlib.suppress(KeyboardInterrupt),
        ):
            left = limit if limit is not None else sys.maxsize
            while left > 0:
                records = [r for rows in consumer.poll(timeout_ms=500).values() for r in rows][:left]
                if records:
                    left -= len(records)
                    cleaned, _ = clean_records(records, policy)
                    comparison.update(*features.added(cleaned, records))
                    live.update(_format_report(comparison.report()))
        if as_json:
            say_json(comparison.report(), indent=-1)


def _format_report(report: "ShadowReport") -> "Group":
    from rich.console import Group
    from rich.table import Table

    from monitoring.performance.shadow import CELLS
    from scoring.decision import OUTCOMES

    agreement = "" if report.agreement is None else f", same outcome for {report.agreement:.2%}"
    unlogged = f", {report.unlogged:,} without logged profile features" if report.unlogged else ""
    outcomes = Table(
        f"champion {report.champion} ╲ challenger {report.challenger}",
        *OUTCOMES,
        title=f"{report.transactions:,} transactions{agreement}{unlogged}",
        title_justify="left",
    )
    for name, row in zip(OUTCOMES, report.outcomes, strict=True):
        outcomes.add_row(name, *(f"{n:,}" for n in row))
    scores = Table("score", "champion", "challenger", title_justify="left")
    for i, pair in enumerate(zip(report.champion_scores, report.challenger_scores, strict=True)):
        if any(pair):
            scores.add_row(f"{i / CELLS:.2f} … {(i + 1) / CELLS:.2f}", *(f"{n:,}" for n in pair))
    return Group(outcomes, scores)
