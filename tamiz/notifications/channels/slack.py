"""Slack, Mattermost and other services that accept the JSON of Slack's incoming webhooks."""

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from schemas.security.sanitizer import chat_text
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

EMOJI: dict[Severity, str] = {"info": ":white_check_mark:", "warning": ":warning:", "critical": ":rotating_light:"}


def message(notice: Notification) -> bytes:
    """Body of an incoming webhook. Text from a record is escaped, so that it cannot mention anyone."""
    title, text = chat_text(notice.title), chat_text(notice.text)
    return msgspec.json.encode({"text": f"{EMOJI[notice.severity]} {title}\n{text}"})


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None if `slack_webhook` is not set."""
    if not settings.slack_webhook:
        return None
    url = settings.slack_webhook.reveal()
    return HttpChannel("slack", settings.slack_min_severity, url, lambda notice: [HttpRequest(url, message(notice))])
