"""Every channel there is. A further one is a file with `channel(settings, report_of)`, and its name here."""

from schemas.configuration.settings import Settings
from tamiz.notifications.channels import mail, opsgenie, pagerduty, signed_webhook, slack, teams
from tamiz.notifications.channels.channel import Channel, ChannelFactory, ReportLoader

CHANNELS: tuple[ChannelFactory, ...] = (
    slack.channel,
    teams.channel,
    mail.channel,
    opsgenie.channel,
    pagerduty.channel,
    signed_webhook.channel,
)
SETTING_OF_EACH = "slack_webhook, teams_webhook, smtp_host, opsgenie_api_key, pagerduty_routing_key or webhook_url"


def channels(settings: Settings, report_of: ReportLoader) -> list[Channel]:
    """Those that are set."""
    return [channel for make in CHANNELS if (channel := make(settings, report_of)) is not None]
