"""Microsoft Teams: sends an Adaptive Card to a workflow's webhook ("When a Teams webhook request is received")."""

from typing import Any

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest

COLOURS: dict[Severity, str] = {"info": "good", "warning": "warning", "critical": "attention"}


def message(notice: Notification) -> dict[str, Any]:
    """The card. Text runs are not parsed as Markdown, so text from a record cannot become a link or a mention."""
    about = notice.model if notice.model_version is None else f"{notice.model} version {notice.model_version}"
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            _text(notice.title, weight="bolder", size="medium", color=COLOURS[notice.severity]),
            _text(notice.text),
            _text(f"{notice.severity}, {about}, {notice.alias}", isSubtle=True),
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None if `teams_webhook` is not set."""
    if not settings.teams_webhook:
        return None
    url = settings.teams_webhook.reveal()

    def requests(notice: Notification) -> list[HttpRequest]:
        return [HttpRequest(url, msgspec.json.encode(message(notice)))]

    return HttpChannel("teams", settings.teams_min_severity, url, requests)


def _text(text: str, **style: object) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}
