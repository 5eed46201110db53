"""PagerDuty's Events API v2: triggers an alert with the incident's key and resolves it with the incident."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

MAX_SUMMARY_LENGTH = 1_024  # characters


def event(notice: Notification, routing_key: str) -> dict[str, Any]:
    """Body of an event. Events with the same `dedup_key` belong to one alert."""
    about = {"routing_key": routing_key, "dedup_key": notice.alias}
    if notice.resolved:
        return about | {"event_action": "resolve"}
    payload = {
        "summary": f"{notice.title}: {notice.text}"[:MAX_SUMMARY_LENGTH],
        "source": "tamiz",
        "severity": notice.severity,  # PagerDuty has the same three names
        "timestamp": datetime.fromtimestamp(notice.happened_at_ms / 1000, UTC).isoformat(),
        "component": notice.model,
        "class": notice.change,
        "custom_details": {"id": notice.id, "text": notice.text, "model_version": notice.model_version},
    }
    return about | {"event_action": "trigger", "client": "tamiz", "payload": payload}


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None if `pagerduty_routing_key` is not set."""
    if not settings.pagerduty_routing_key:
        return None
    url, key = settings.pagerduty_url.rstrip("/") + "/v2/enqueue", settings.pagerduty_routing_key.reveal()

    def requests(notice: Notification) -> list[HttpRequest]:
        return [HttpRequest(url, msgspec.json.encode(event(notice, key)))]

    return HttpChannel("pagerduty", settings.pagerduty_min_severity, url, requests, closes_alerts=True)
