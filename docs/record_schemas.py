"""Schemas of the records: JSON Schema 2020-12 and AsyncAPI 3.0, from the records' types and comments."""

import inspect
import io
import tokenize
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec

from schemas import records as events
from schemas import rule_report, rules, tile_records
from schemas.configuration.settings import load
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.topics import Topic, topic_table

ROOT = Path(__file__).parent.parent
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"]
WIRE = (
    events.Decision,
    events.FeatureRecord,
    tile_records.TileRecord,
    events.Redrive,
    events.Label,
    rules.RulesetRecord,
    rules.ListEntry,
    rules.RuleActivation,
    rule_report.RuleReport,
    events.PaneSnapshot,
    events.DriftReport,
    events.DriftAlert,
    events.RetrainRequest,
    events.ModelEvent,
)
# Headers of a record of `decisions`; CloudEvents 1.0 in Kafka's binary content mode.
HEADERS = {
    "ce_specversion": "`1.0`",
    "ce_type": "`tamiz.decision.v1`",
    "ce_source": "`/tamiz/MODEL/VERSION`",
    "ce_id": "id of the decision",
    "ce_time": "event time of the transaction, RFC 3339",
    "content-type": "`application/json`",
    "tamiz-offset": "offset of the transaction; its partition is that of the decision",
    "tamiz-group": "consumer group of the worker",
    "tamiz-topic-id": "Kafka's id of the transactions topic that the offset belongs to",
    "traceparent": "copied from the transaction",
}


def json_schemas() -> dict[str, Any]:
    """JSON Schema of every record on Kafka topics, under `$defs`."""
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
    """JSON Schema of a transaction, from the declaration of the data set; as lenient as cleaning."""
    spelled = {
        "number": {"type": ["number", "string", "null"]},
        "boolean": {"type": ["boolean", "number", "string", "null"]},
        "category": {"type": ["string", "number", "boolean", "null"]},
    }
    properties: dict[str, Any] = {dataset.key: {"type": ["string", "number"], "description": "the Kafka key, too"}}
    properties[dataset.event_time.date] = {
        "type": ["string", "number"],
        "description": dataset.time_format.expected,
    }
    if dataset.event_time.hour:
        properties[dataset.event_time.hour] = spelled["number"]
    if dataset.transaction_id:
        properties[dataset.transaction_id] = {"type": ["string", "number", "null"]}
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


def _components(template: str) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(WIRE, ref_template=template)
    for record in with_parts(WIRE):
        schema = found[record.__name__]
        schema["description"] = inspect.getdoc(record)
        for name, meaning in comments(record).items():
            inner = schema["properties"][name]
            schema["properties"][name] = inner | {"description": meaning}
    return found


def with_parts(records: tuple[type, ...]) -> list[type]:
    """Each record, followed by the records it contains, without duplicates."""
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
