"""`tamiz topics`: the table of topics, made and shown."""

import json
from typing import Annotated

import typer

from schemas import settings as config


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(no_args_is_help=True, help="Make and list the topics that Tamiz uses.")
    app.add_typer(topics, name="topics")

    @topics.command()
    def create() -> None:
        """Make the topics that are not there yet; those that are stay as they are."""
        from schemas.topics import table
        from stream_app.topic_admin import create_topics

        settings = config.load()
        wanted = table(settings)
        made = create_topics(settings.bootstrap, wanted, settings.replication_factor)
        for topic in wanted:
            print(f"{topic.name}: {'made' if topic.name in made else 'was there'}")

    @topics.command("list")
    def list_(
        as_json: Annotated[bool, typer.Option("--json", help="For machines: a list of objects.")] = False,
    ) -> None:
        """Show every topic: what travels there, how it is keyed, how many partitions the cluster gives it."""
        from rich.console import Console
        from rich.table import Table

        from schemas.topics import table
        from stream_app.topic_admin import partition_counts

        settings = config.load()
        topics = table(settings)
        counts = partition_counts(settings.bootstrap, [t.name for t in topics])
        rows = [
            {
                "topic": t.name,
                "partitions": counts.get(t.name),
                "key": t.key,
                "record": t.record,
                "direction": t.direction,
                "config": t.config,
            }
            for t in topics
        ]
        if as_json:
            print(json.dumps(rows, indent=1))
            return
        shown = Table("topic", "partitions", "key", "record", "direction", title=f"Topics on {settings.bootstrap}")
        for row in rows:
            partitions = "[red]missing[/red]" if row["partitions"] is None else str(row["partitions"])
            shown.add_row(str(row["topic"]), partitions, str(row["key"]), str(row["record"]), str(row["direction"]))
        Console().print(shown)
