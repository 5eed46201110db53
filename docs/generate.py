"""Generates the reference in `docs/reference/`, and the names in the code map, from the code: `make reference`.

The files are checked in, so that they can be read without a build; a test checks that they match the code.
"""

import inspect
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperGroup

from docs.code_map import PAGE, with_names
from docs.record_schemas import HEADERS, ROOT, WIRE, asyncapi, comments, json_schemas, with_parts
from schemas import errors
from schemas.configuration.settings import describe, load
from schemas.topics import Topic, topic_table
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.worker.worker_metrics import WorkerMetrics
from tamiz.main import app

FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- generated from the code by `make reference`; edit the code -->\n"


def reference() -> dict[str, str]:
    """Content of every file of the reference, by file name."""
    return {
        "settings.md": MADE + settings(),
        "topics.md": MADE + topics(),
        "records.md": MADE + records(),
        "commands.md": MADE + commands(),
        "metrics.md": MADE + metrics(),
        "records.schema.json": _json(json_schemas()),
        "asyncapi.json": _json(asyncapi()),
    }


def settings() -> str:
    """Table of settings: name, default and meaning."""
    rows = [(f"`{name}`", _code(default), about) for name, default, about in describe()]
    return (
        "# Settings\n\nFor operators who configure Tamiz.\n\n"
        "A setting is read from the environment as `TAMIZ_NAME`, or as `name` from `tamiz.toml` (or the file that "
        "`TAMIZ_CONFIG` names); the environment takes precedence.\n"
        "An invalid setting ends a program at start with one line. `tamiz settings` shows the values in use.\n\n"
        + _table(("setting", "default", "meaning"), rows)
    )


def topics() -> str:
    """Table of topics, with the configuration that `tamiz topics create` sets."""
    rows = [
        (f"`{t.role}`", t.key, t.record, t.direction, str(t.partitions), ", ".join(f"`{k}={v}`" for k, v in kept(t)))
        for t in topic_table(load({}))
    ]
    head = ("topic", "key", "record", "direction", "partitions", "configuration")
    return (
        "# Topics\n\nFor operators who create topics, and for programs that read or write them.\n\n"
        "Names are the defaults; `topic_prefix` among the [settings](settings.md) is put before them. "
        "Records are JSON: [records](records.md).\nFor programs: [asyncapi.json](asyncapi.json).\n\n"
        + _table(head, rows)
    )


def kept(topic: Topic) -> list[tuple[str, str]]:
    """Configuration of a topic, sorted by key."""
    return sorted(topic.config.items())


def records() -> str:
    """Tables of the records on Kafka topics, field by field."""
    parts = [
        "# Records\n\nFor developers of programs that read or write Tamiz's topics.\n\n"
        "All records are JSON objects. Times are milliseconds since 1970 in UTC. Readers should ignore unknown "
        "fields.\n"
        "For programs: [records.schema.json](records.schema.json), JSON Schema 2020-12.\n"
    ]
    of = {t.record: t.role for t in topic_table(load({}))}
    for record in with_parts(WIRE):
        about = inspect.getdoc(record) or ""
        where = f" On `{of[record.__name__]}`." if record.__name__ in of else ""
        meanings = comments(record)
        hints = typing.get_type_hints(record)
        rows = [
            (f"`{f.name}`", written(hints[f.name]), meanings.get(f.name, "")) for f in msgspec.structs.fields(record)
        ]
        parts.append(f"## {record.__name__}\n\n{about}{where}\n\n{_table(('field', 'type', 'meaning'), rows)}")
    parts.append(
        "## Headers of a decision\n\n"
        + _table(("header", "content"), [(f"`{name}`", content) for name, content in HEADERS.items()])
    )
    return "\n".join(parts)


def commands() -> str:
    """Every command, its arguments and options."""
    parts = ["# Commands\n\nFor users of the command line.\n\nThe same texts as `tamiz COMMAND --help`. " + _errors()]
    for name, command in _leaves(typer.main.get_command(app), "tamiz"):
        about = inspect.cleandoc(command.help or "")
        context = command.context_class(command, info_name=name)
        rows = [p.get_help_record(context) for p in command.params]
        parts.append(f"## {name}\n\n{about}\n")
        if rows:
            parts.append(_table(("argument or option", "meaning"), [(f"`{words}`", text) for words, text in rows]))
    return "\n".join(parts)


def metrics() -> str:
    """Tables of the metrics of worker and monitor."""
    worker, monitor = WorkerMetrics(), MonitorMetrics()
    worker.set_lag({0: 0})
    worker.dead_letters.labels("not-json")
    monitor.records_skipped.labels("drift-panes")
    return (
        "# Metrics\n\nFor operators who monitor Tamiz with Prometheus.\n\n"
        "On each worker's `/metrics`, in Prometheus' format: times in seconds, sizes in bytes. The alert "
        "rules of `deploy/prometheus/alerts.yml`\nand the dashboard of `deploy/grafana/` read them.\n\n"
        + _metrics_of(worker.registry)
        + "\n## The monitor\n\nOn `/metrics` of `tamiz monitor`, port `monitor_port`.\n\n"
        + _metrics_of(monitor.registry)
    )


def _metrics_of(registry: CollectorRegistry) -> str:
    rows = []
    for metric in sorted(registry.collect(), key=lambda m: m.name):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        rows.append((f"`{name}`", metric.type, ", ".join(f"`{x}`" for x in labels), metric.documentation))
    return _table(("metric", "type", "labels", "meaning"), rows)


def written(hint: Any) -> str:
    """Name of a type in JSON.

    >>> written(tuple[str, ...]), written(float | None), written(typing.Literal["a", "b"])
    ('array of string', 'number or null', '`a`, `b`')
    """
    simple = {str: "string", bool: "boolean", int: "integer", float: "number", bytes: "base64", types.NoneType: "null"}
    if hint in simple:
        return simple[hint]
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"array of {written(typing.get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return " or ".join(written(part) for part in typing.get_args(hint))


def _errors() -> str:
    tree = (errors.__doc__ or "").split("::", 1)[1]
    return (
        "An error ends a command with one line on standard error and exit code 2:\n\n```text\n"
        + inspect.cleandoc(tree)
        + "\n```\n"
    )


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield name, command
        for word in sorted(command.commands):
            yield from _leaves(command.commands[word], f"{name} {word}")
    else:
        yield name, command


def _code(value: Any) -> str:
    return "" if value is None or value == "" or value is ... else f"`{value}`"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(_cell(c) for c in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in reference().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    page = ROOT / PAGE
    page.write_text(with_names(page.read_text(encoding="utf-8"), ROOT), encoding="utf-8")
