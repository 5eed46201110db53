"""Opsgenie's Alert API: creates an alert with the incident's alias and closes it with the incident.

Source: docs.opsgenie.com, "Alert API" (create, close) and "Alert API (continued)" (update priority: PUT).
"""

from typing import Any
from urllib.parse import quote

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

PRIORITIES: dict[Severity, str] = {"info": "P5", "warning": "P3", "critical": "P1"}
MAX_MESSAGE_LENGTH = 130  # characters; other fields of a notification are shorter than the API's limits


def alert(notice: Notification) -> dict[str, Any]:
    """Body of a request to create an alert. If one with this alias is open, the API increments its count instead."""
    return {
        "message": notice.title[:MAX_MESSAGE_LENGTH],
        "alias": notice.alias,
        "description": notice.text,
        "priority": PRIORITIES[notice.severity],
        "source": "tamiz",
        "entity": notice.model,
        "tags": [notice.change, notice.severity],
        "details": {"id": notice.id, "model_version": str(notice.model_version or "")},
    }


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None if `opsgenie_api_key` is not set."""
    if not settings.opsgenie_api_key:
        return None
    alerts = settings.opsgenie_url.rstrip("/") + "/v2/alerts"
    access = {"Authorization": f"GenieKey {settings.opsgenie_api_key.reveal()}"}

    def requests(notice: Notification) -> list[HttpRequest]:
        def of_alias(action: str, body: dict[str, str], method: str = "POST") -> HttpRequest:
            url = f"{alerts}/{quote(notice.alias, safe='')}/{action}?identifierType=alias"
            return HttpRequest(url, msgspec.json.encode(body), access, method)

        if notice.resolved:
            return [of_alias("close", {"source": "tamiz", "note": notice.text})]
        create = HttpRequest(alerts, msgspec.json.encode(alert(notice)), access)
        if notice.change != "grew":
            return [create]
        # Creating an alert whose alias is open increases its count and does not change its priority.
        return [create, of_alias("priority", {"priority": PRIORITIES[notice.severity]}, "PUT")]

    return HttpChannel("opsgenie", settings.opsgenie_min_severity, alerts, requests, closes_alerts=True)
