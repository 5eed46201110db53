"""`tamiz topics`: create and list the topics that Tamiz uses."""

from collections.abc import Mapping
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.time_units import DAY_MS


def format_retention(config: Mapping[str, str]) -> str:
    """How long a topic with this configuration retains its records.

    >>> format_retention({"retention.ms": "604800000"})
    '7 days'
    >>> format_retention({"cleanup.policy": "compact"}), format_retention({})
    ('compacted: last record per key', 'cluster default')
    """
    if config.get("cleanup.policy") == "compact":
        return "compacted: last record per key"
    if "retention.ms" not in config:
        return "cluster default"
    return f"{int(config['retention.ms']) / DAY_MS:g} days"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(no_args_is_help=True, help="Create and list the topics that Tamiz uses.")
    app.add_typer(topics, name="topics")

    @topics.command()
    def create() -> None:
        """Create the topics that are missing. Existing topics are not changed.

        Example:

            tamiz topics create

        Read on: docs/reference/topics.md.
        """
        from schemas.dataset.declaration import load_dataset
        from schemas.topics import topic_table
        from stream_app.kafka.topic_admin import create_topics, partition_counts
        from tamiz.terminal import say

        settings = config.load()
        wanted = topic_table(settings, load_dataset(settings.dataset).profiles)
        created = create_topics(settings.bootstrap, wanted, settings.replication_factor)
        counts = partition_counts(settings.bootstrap, [t.name for t in wanted])
        for topic in wanted:
            partitions = counts.get(topic.name, 0)
            if topic.name in created:
                say(f"{topic.name}: created")
            elif partitions == topic.partitions:
                say(f"{topic.name}: exists")
            else:
                say(f"{topic.name}: exists, unchanged; partitions: {partitions}, by the settings: {topic.partitions}")

    @topics.command("list")
    def list_(
        as_json: Annotated[bool, typer.Option("--json", help="Print the topics as JSON.")] = False,
    ) -> None:
        """List every topic: its record type, key, retention, and partitions on the cluster.

        Example:

            tamiz topics list

        Read on: docs/reference/topics.md.
        """
        from rich.table import Table
        from rich.text import Text

        from schemas.dataset.declaration import load_dataset
        from schemas.topics import topic_table
        from stream_app.kafka.topic_admin import partition_counts
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        topics = topic_table(settings, load_dataset(settings.dataset).profiles)
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
        columns = ("role", "topic", "partitions", "key", "record", "direction", "retention")
        listing = Table(*columns, title=f"Topics on {settings.bootstrap}")
        for t in topics:
            partitions = Text(str(counts[t.name])) if t.name in counts else Text("missing", "red")
            listing.add_row(t.role, t.name, partitions, t.key, t.record, t.direction, format_retention(t.config))
        Terminal().print(listing)
