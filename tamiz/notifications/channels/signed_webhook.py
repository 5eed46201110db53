"""Webhook of any HTTP endpoint: the notification as JSON, signed with HMAC-SHA256."""

import hashlib
import hmac
import time

import msgspec

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from tamiz.notifications.channels.channel import Channel, ReportLoader
from tamiz.notifications.channels.http_channel import HttpChannel, HttpRequest


def signature(body: bytes, secret: str, at_s: int) -> str:
    """The header `Tamiz-Signature`: HMAC-SHA256 of `at_s.body`, so that an old request cannot be replayed.

    >>> signature(b"{}", "key", 0)[:20]
    't=0,v1=7314351dd949a'
    """
    digest = hmac.new(secret.encode(), b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None unless `webhook_url` and `webhook_secret` are set."""
    if not (settings.webhook_url and settings.webhook_secret):
        return None
    url, secret = settings.webhook_url.reveal(), settings.webhook_secret.reveal()

    def requests(notice: Notification) -> list[HttpRequest]:
        body = msgspec.json.encode(notice)
        signed = {"Tamiz-Signature": signature(body, secret, int(time.time())), "Tamiz-Delivery": notice.id}
        return [HttpRequest(url, body, signed)]

    return HttpChannel("webhook", settings.webhook_min_severity, url, requests)
