"""Opsgenie, PagerDuty and Microsoft Teams as far as channels use them: real servers on loopback that check requests.

Each answers as its API does, by its documentation, and keeps the state that the requests lead to.
"""

from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import jsonschema
import msgspec

from tests.helpers.services.notification_servers import HttpReceiver, Request


def _json_of(request: Request) -> Any:
    """The body; None if it is not JSON or has another content type."""
    if request.headers.get("Content-Type") != "application/json":
        return None
    try:
        return msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        return None


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest}


class OpsgenieServer(HttpReceiver):
    """Imitates Opsgenie's Alert API: the same responses; keeps the open alerts.

    By its documentation: https://docs.opsgenie.com/docs/alert-api and https://docs.opsgenie.com/docs/alert-api-continued
    """

    KEY = "eb243592-faa2-4ba2-a551-1afdf565c889"
    PRIORITY: ClassVar[dict[str, Any]] = {"enum": ["P1", "P2", "P3", "P4", "P5"]}
    CREATE: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["message"],
        "properties": {
            "message": _text(130),
            "alias": _text(512),
            "description": _text(15_000),
            "priority": PRIORITY,
            "source": _text(100),
            "entity": _text(512),
            "tags": {"type": "array", "maxItems": 20, "items": _text(50)},
            "details": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "additionalProperties": False,
    }
    CLOSE: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"user": _text(100), "source": _text(100), "note": _text(25_000)},
        "additionalProperties": False,
    }
    SET_PRIORITY: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["priority"],
        "properties": {"priority": PRIORITY},
    }

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, tuple[str, int]] = {}  # by alias: priority, and how often it was created

    def answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("Authorization") != f"GenieKey {self.KEY}":
            return 401, b'{"message":"Key format is not valid!","took":0.001,"requestId":"1"}'
        url, body = urlsplit(request.path), _json_of(request)
        parts = [unquote(part) for part in url.path.split("/")]
        match request.method, parts, url.query:
            case "POST", ["", "v2", "alerts"], "":
                schema = self.CREATE
            case "POST", ["", "v2", "alerts", _, "close"], "identifierType=alias":
                schema = self.CLOSE
            case "PUT", ["", "v2", "alerts", _, "priority"], "identifierType=alias":
                schema = self.SET_PRIORITY
            case _:
                return 404, b'{"message":"no handler"}'
        if not jsonschema.Draft202012Validator(schema).is_valid(body):
            return 422, b'{"message":"Request body is not processable.","took":0.001,"requestId":"1"}'
        if schema is self.CREATE:
            priority, count = self.open.get(body["alias"], (body["priority"], 0))
            self.open[body["alias"]] = priority, count + 1
        elif schema is self.CLOSE:
            self.open.pop(parts[3], None)
        elif parts[3] in self.open:
            self.open[parts[3]] = body["priority"], self.open[parts[3]][1]
        return 202, b'{"result":"Request will be processed","took":0.302,"requestId":"1"}'


class PagerDutyServer(HttpReceiver):
    """Imitates PagerDuty's Events API v2: the same responses; keeps the triggered alerts.

    By its documentation: https://developer.pagerduty.com/docs/send-alert-event
    """

    KEY = "e93facc04764012d7bfb002500d5d1a6"
    PAYLOAD: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["summary", "source", "severity"],
        "properties": {
            "summary": _text(1_024),
            "source": _text(1_024),
            "severity": {"enum": ["critical", "error", "warning", "info"]},
            "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
            "component": {"type": "string"},
            "group": {"type": "string"},
            "class": {"type": "string"},
            "custom_details": {"type": "object"},
        },
        "additionalProperties": False,
    }
    EVENT: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["routing_key", "event_action"],
        "properties": {
            "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
            "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
            "dedup_key": _text(255),
            "payload": PAYLOAD,
            "client": {"type": "string"},
        },
        "additionalProperties": False,
        "if": {"properties": {"event_action": {"const": "trigger"}}},
        "then": {"required": ["payload"]},
        "else": {"required": ["dedup_key"]},
    }

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, str] = {}  # by key: severity

    def answer(self, request: Request) -> tuple[int, bytes]:
        body = _json_of(request)
        if (request.method, request.path) != ("POST", "/v2/enqueue"):
            return 404, b""
        if not jsonschema.Draft202012Validator(self.EVENT).is_valid(body) or body["routing_key"] != self.KEY:
            return 400, b'{"status":"invalid event","message":"Event object is invalid","errors":[]}'
        if body["event_action"] == "trigger":
            self.open[body["dedup_key"]] = body["payload"]["severity"]
        else:
            self.open.pop(body["dedup_key"], None)
        return 202, msgspec.json.encode(
            {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}
        )


class TeamsServer(HttpReceiver):
    """Imitates a workflow webhook of Microsoft Teams: accepts one Adaptive Card of at most 28 KB, signed by its URL."""

    PATH = "/workflows/3f/triggers/manual/paths/invoke?api-version=2016-06-01&sig="
    SIGNATURE = "geheim"
    RUN: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {
            "type": {"const": "TextRun"},
            "text": _text(28_000),
            "weight": {"enum": ["lighter", "default", "bolder"]},
            "size": {"enum": ["small", "default", "medium", "large", "extraLarge"]},
            "color": {"enum": ["default", "dark", "light", "accent", "good", "warning", "attention"]},
            "isSubtle": {"type": "boolean"},
        },
        "additionalProperties": False,
    }
    BLOCK: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["type", "inlines"],
        "properties": {"type": {"const": "RichTextBlock"}, "inlines": {"type": "array", "items": RUN}},
        "additionalProperties": False,
    }
    CARD: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["type", "version", "body"],
        "properties": {
            "$schema": {"type": "string"},
            "type": {"const": "AdaptiveCard"},
            "version": {"const": "1.4"},
            "body": {"type": "array", "minItems": 1, "items": BLOCK},
        },
        "additionalProperties": False,
    }
    MESSAGE: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["type", "attachments"],
        "properties": {
            "type": {"const": "message"},
            "attachments": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "type": "object",
                    "required": ["contentType", "content"],
                    "properties": {
                        "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                        "content": CARD,
                    },
                },
            },
        },
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        super().__init__()
        self.webhook = self.url + self.PATH + self.SIGNATURE
        self.cards: list[list[str]] = []  # the texts of each, by block

    def answer(self, request: Request) -> tuple[int, bytes]:
        if (request.method, request.path) != ("POST", self.PATH + self.SIGNATURE):
            return 401, b'{"error":{"code":"DirectApiAuthorizationRequired"}}'
        if len(request.body) > 28 * 1024:
            return 413, b""
        if not jsonschema.Draft202012Validator(self.MESSAGE).is_valid(body := _json_of(request)):
            return 400, b'{"error":{"code":"TriggerInputSchemaMismatch"}}'
        card = body["attachments"][0]["content"]
        self.cards.append(["".join(run["text"] for run in block["inlines"]) for block in card["body"]])
        return 202, b""
