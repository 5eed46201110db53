"""Slack, Mattermost, and whatever else takes the JSON of Slack's incoming webhooks."""

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from schemas.security.sanitizer import chat_text
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

EMOJI: dict[Severity, str] = {"info": ":white_check_mark:", "warning": ":warning:", "critical": ":rotating_light:"}


def message(notice: Notification) -> bytes:
    """The body of an incoming webhook; nothing that a record brings may ping a channel."""
    title, text = chat_text(notice.title), chat_text(notice.text)
    return msgspec.json.encode({"text": f"{EMOJI[notice.severity]} {title}\n{text}"})


def channel(settings: Settings, report_of: ReportLoader) -> Channel | None:
    """The channel, where `slack_webhook` is set."""
    if not settings.slack_webhook:
        return None
    url = settings.slack_webhook.reveal()
    return HttpChannel("slack", settings.slack_min_severity, url, lambda notice: [HttpRequest(url, message(notice))])
