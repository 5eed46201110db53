"""`tamiz topics`: the table of topics, made and shown."""

from collections.abc import Mapping
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.time_units import DAY_MS


def kept(config: Mapping[str, str]) -> str:
    """How long a topic with this configuration keeps its records.

    >>> kept({"retention.ms": "604800000"}), kept({"cleanup.policy": "compact"}), kept({})
    ('7 days', 'the last of each key', "as the cluster's default")
    """
    if config.get("cleanup.policy") == "compact":
        return "the last of each key"
    if "retention.ms" not in config:
        return "as the cluster's default"
    return f"{int(config['retention.ms']) / DAY_MS:g} days"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(no_args_is_help=True, help="Make and list the topics that Tamiz uses.")
    app.add_typer(topics, name="topics")

    @topics.command()
    def create() -> None:
        """Make the topics that are not there yet; those that are stay as they are."""
        from schemas.topics import table
        from stream_app.kafka.topic_admin import create_topics, partition_counts
        from tamiz.terminal import say

        settings = config.load()
        wanted = table(settings)
        made = create_topics(settings.bootstrap, wanted, settings.replication_factor)
        counts = partition_counts(settings.bootstrap, [t.name for t in wanted])
        for topic in wanted:
            there = counts.get(topic.name, 0)
            if topic.name in made:
                say(f"{topic.name}: made")
            elif there == topic.partitions:
                say(f"{topic.name}: was there")
            else:
                say(f"{topic.name}: was there, left as it is: partitions {there}, by these settings {topic.partitions}")

    @topics.command("list")
    def list_(
        as_json: Annotated[bool, typer.Option("--json", help="For machines: a list of objects.")] = False,
    ) -> None:
        """Show every topic: what travels there, how it is keyed, how many partitions the cluster gives it."""
        from rich.table import Table
        from rich.text import Text

        from schemas.topics import table
        from stream_app.kafka.topic_admin import partition_counts
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        topics = table(settings)
        counts = partition_counts(settings.bootstrap, [t.name for t in topics])
        rows = [
            {
                "role": t.role,
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
            say_json(rows)
            return
        columns = ("role", "topic", "partitions", "key", "record", "direction", "kept")
        shown = Table(*columns, title=f"Topics on {settings.bootstrap}")
        for t in topics:
            partitions = Text(str(counts[t.name])) if t.name in counts else Text("missing", "red")
            shown.add_row(t.role, t.name, partitions, t.key, t.record, t.direction, kept(t.config))
        Terminal().print(shown)
