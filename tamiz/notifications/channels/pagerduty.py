"""PagerDuty's Events API v2: an event triggers an alert under the incident's key and resolves it with the incident."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

MAX_SUMMARY_LENGTH = 1_024  # characters


def event(notice: Notification, routing_key: str) -> dict[str, Any]:
    """The body of an event. Events of one `dedup_key` are about one alert."""
    about = {"routing_key": routing_key, "dedup_key": notice.alias}
    if notice.resolved:
        return about | {"event_action": "resolve"}
    payload = {
        "summary": f"{notice.title}: {notice.text}"[:MAX_SUMMARY_LENGTH],
        "source": "tamiz",
        "severity": notice.severity,  # PagerDuty's words are ours
        "timestamp": datetime.fromtimestamp(notice.happened_at_ms / 1000, UTC).isoformat(),
        "component": notice.model,
        "class": notice.change,
        "custom_details": {"id": notice.id, "text": notice.text, "model_version": notice.model_version},
    }
    return about | {"event_action": "trigger", "client": "tamiz", "payload": payload}


def channel(settings: Settings, report_of: ReportLoader) -> Channel | None:
    """The channel, where `pagerduty_routing_key` is set."""
    if not settings.pagerduty_routing_key:
        return None
    url, key = settings.pagerduty_url.rstrip("/") + "/v2/enqueue", settings.pagerduty_routing_key.reveal()

    def requests(notice: Notification) -> list[HttpRequest]:
        return [HttpRequest(url, msgspec.json.encode(event(notice, key)))]

    return HttpChannel("pagerduty", settings.pagerduty_min_severity, url, requests, closes_alerts=True)
