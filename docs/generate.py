"""The reference, made from the code that it tells of: `make reference` writes `docs/reference/`.

The files are checked in, to be read without building anything; a test holds them to what the code says today.
"""

import inspect
import io
import json
import tokenize
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperGroup

from schemas import errors
from schemas import records as events
from schemas.configuration.settings import describe, load
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.topics import Topic, topic_table
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.worker.worker_metrics import WorkerMetrics
from tamiz.main import app

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"]
MADE = "<!-- made from the code by `make reference`; change it there -->\n"
WIRE = (
    events.Decision,
    events.Redrive,
    events.Label,
    events.PaneSnapshot,
    events.DriftReport,
    events.DriftAlert,
    events.RetrainRequest,
    events.ModelEvent,
)
# What a reader of `decisions` finds beside the JSON; CloudEvents 1.0 in Kafka's binary content mode.
HEADERS = {
    "ce_specversion": "`1.0`",
    "ce_type": "`tamiz.decision.v1`",
    "ce_source": "`/tamiz/MODEL/VERSION`",
    "ce_id": "the decision's id",
    "ce_time": "the transaction's event time, RFC 3339",
    "content-type": "`application/json`",
    "tamiz-offset": "the transaction's offset; its partition is the decision's own",
    "tamiz-group": "consumer group of the worker",
    "tamiz-topic-id": "incarnation of the transactions topic that the offset belongs to (Kafka's topic id)",
    "traceparent": "as the transaction brought it",
}


def reference() -> dict[str, str]:
    """Every file of the reference: name -> content."""
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
    """Every setting, its default and meaning."""
    rows = [(f"`{name}`", _code(default), about) for name, default, about in describe()]
    return (
        "# Settings\n\nIn the environment as `TAMIZ_NAME`, or as `name` in `tamiz.toml` (or the file that "
        "`TAMIZ_CONFIG` names); the environment wins.\nA bad one stops a program at its start, in one line. "
        "`tamiz settings` shows what is set.\n\n" + _table(("setting", "default", "meaning"), rows)
    )


def topics() -> str:
    """Every topic, and how `tamiz topics create` makes it."""
    rows = [
        (f"`{t.role}`", t.key, t.record, t.direction, str(t.partitions), ", ".join(f"`{k}={v}`" for k, v in kept(t)))
        for t in topic_table(load({}))
    ]
    head = ("topic", "key", "record", "direction", "partitions", "made with")
    return (
        "# Topics\n\nUnder their default names; `NAME_topic` among the [settings](settings.md) gives another. "
        "Records are JSON: [records](records.md).\nFor programs: [asyncapi.json](asyncapi.json).\n\n"
        + _table(head, rows)
    )


def kept(topic: Topic) -> list[tuple[str, str]]:
    """A topic's own configuration."""
    return sorted(topic.config.items())


def records() -> str:
    """Every record on the wire, field by field."""
    parts = [
        "# Records\n\nAll are JSON objects. Times are milliseconds since 1970 in UTC; readers should pass over fields "
        "they do not know.\nFor programs: [records.schema.json](records.schema.json), JSON Schema 2020-12.\n"
    ]
    of = {t.record: t.role for t in topic_table(load({}))}
    for record in _with_parts(WIRE):
        told = inspect.getdoc(record) or ""
        where = f" On `{of[record.__name__]}`." if record.__name__ in of else ""
        meanings = comments(record)
        hints = typing.get_type_hints(record)
        rows = [
            (f"`{f.name}`", written(hints[f.name]), meanings.get(f.name, "")) for f in msgspec.structs.fields(record)
        ]
        parts.append(f"## {record.__name__}\n\n{told}{where}\n\n{_table(('field', 'type', 'meaning'), rows)}")
    parts.append(
        "## Headers of a decision\n\n"
        + _table(("header", "holds"), [(f"`{name}`", held) for name, held in HEADERS.items()])
    )
    return "\n".join(parts)


def commands() -> str:
    """Every command, its arguments and options."""
    parts = ["# Commands\n\nThe same texts as `tamiz COMMAND --help`. " + _errors()]
    for name, command in _leaves(typer.main.get_command(app), "tamiz"):
        about = inspect.cleandoc(command.help or "")
        context = command.context_class(command, info_name=name)
        rows = [p.get_help_record(context) for p in command.params]
        parts.append(f"## {name}\n\n{about}\n")
        if rows:
            parts.append(_table(("argument or option", "meaning"), [(f"`{words}`", text) for words, text in rows]))
    return "\n".join(parts)


def metrics() -> str:
    """Every metric of a worker's page and of the monitor's."""
    worker, monitor = WorkerMetrics(), MonitorMetrics()
    worker.set_lag({0: 0})
    worker.dead_letters.labels("not-json")
    monitor.records_skipped.labels("drift-panes")
    return (
        "# Metrics\n\nOn each worker's `/metrics`, in Prometheus' format: times in seconds, sizes in bytes. The alert "
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


def json_schemas() -> dict[str, Any]:
    """JSON Schema of every record on the wire, under `$defs`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Records of Tamiz",
        "oneOf": [{"$ref": f"#/$defs/{record.__name__}"} for record in WIRE],
        "$defs": _components("#/$defs/{name}"),
    }


def asyncapi() -> dict[str, Any]:
    """The topics and their records as an AsyncAPI 3.0 document."""
    settings = load({})
    known = {record.__name__ for record in WIRE}
    dataset = load_dataset(settings.dataset)
    schemas = _components("#/components/schemas/{name}")
    schemas["Transaction"] = transaction_schema(dataset)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in topic_table(settings):
        message: dict[str, Any] = {"name": topic.role, "summary": topic.record, "contentType": "application/json"}
        if topic.record in known:
            message["payload"] = {"$ref": f"#/components/schemas/{topic.record}"}
        elif topic.role == "transactions":
            message["payload"] = {"$ref": "#/components/schemas/Transaction"}
        else:
            message["payload"] = {"description": topic.record}
        if topic.role == "decisions":
            message["headers"] = {
                "type": "object",
                "properties": {name: {"type": "string", "description": held} for name, held in HEADERS.items()},
            }
        message["bindings"] = {"kafka": {"key": {"type": "string", "description": topic.key}}}
        messages[topic.role] = message
        channels[topic.role] = {
            "address": topic.name,
            "messages": {topic.role: {"$ref": f"#/components/messages/{topic.role}"}},
            "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions, **_configured(topic)}},
        }
        for action in {"in": ("receive",), "out": ("send",)}.get(topic.direction, ("receive", "send")):
            operations[f"{action}-{topic.role}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.role}"},
                "summary": f"{'read' if action == 'receive' else 'written'} by Tamiz",
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tamiz",
            "version": "1.0.0",
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def transaction_schema(dataset: Dataset) -> dict[str, Any]:
    """What a producer may send, as the declaration of the data set has it: lenient, as cleaning is."""
    spelled = {
        "number": {"type": ["number", "string", "null"]},
        "boolean": {"type": ["boolean", "number", "string", "null"]},
        "category": {"type": ["string", "null"]},
    }
    properties: dict[str, Any] = {dataset.key: {"type": ["string", "integer"], "description": "the Kafka key, too"}}
    properties[dataset.event_time.date] = {"type": "string", "description": "date, or ISO 8601 time stamp"}
    if dataset.event_time.hour:
        properties[dataset.event_time.hour] = spelled["number"]
    if dataset.transaction_id:
        properties[dataset.transaction_id] = {"type": ["string", "integer", "null"]}
    for field in dataset.fields:
        if field.kind == "mapping":
            inner = {entry.key: spelled[entry.kind] for entry in field.entries}
            properties[field.name] = {"anyOf": [{"type": "object", "properties": inner}, {"type": ["string", "null"]}]}
        else:
            properties[field.name] = spelled[field.kind]
    required = [dataset.key, dataset.event_time.date, *(f.name for f in dataset.fields if f.required)]
    return {"title": dataset.name, "type": "object", "properties": properties, "required": required}


def comments(record: type) -> dict[str, str]:
    """Meaning of each field of a record, by field name: the comment on its line, else the one above it."""
    meanings: dict[str, str] = {}
    name = None
    above: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(record)).readline):
        if token.type == tokenize.NAME and token.line.startswith(f"    {token.string}:"):
            name = token.string
            if above:
                meanings[name] = " ".join(above)
            above = []
        elif token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            above.append(token.string.lstrip("# "))
        elif token.type == tokenize.COMMENT and name and token.line.lstrip().startswith(f"{name}:"):
            meanings[name] = token.string.lstrip("# ")
    return meanings


def written(hint: Any) -> str:
    """A type as JSON has it.

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


def _components(template: str) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(WIRE, ref_template=template)
    for record in _with_parts(WIRE):
        schema = found[record.__name__]
        schema["description"] = inspect.getdoc(record)
        for name, meaning in comments(record).items():
            inner = schema["properties"][name]
            schema["properties"][name] = inner | {"description": meaning}
    return found


def _with_parts(records: tuple[type, ...]) -> list[type]:
    # Each record, then those it is made of that were not told yet.
    found: list[type] = []

    def add(hint: Any) -> None:
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if hint not in found:
                found.append(hint)
                for inner in typing.get_type_hints(hint).values():
                    add(inner)
        else:
            for part in typing.get_args(hint):
                add(part)

    for record in records:
        add(record)
    return found


def _configured(topic: Topic) -> dict[str, Any]:
    if not topic.config:
        return {}
    numbers = {k: int(v) for k, v in topic.config.items() if k != "cleanup.policy"}
    policy = topic.config.get("cleanup.policy")
    return {"topicConfiguration": numbers | ({"cleanup.policy": policy.split(",")} if policy else {})}


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
