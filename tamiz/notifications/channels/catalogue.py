"""List of all channels. To add one, write a file with `channel(settings, load_report)` and list it here."""

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
SETTING_NAMES = "slack_webhook, teams_webhook, smtp_host, opsgenie_api_key, pagerduty_routing_key or webhook_url"


def channels(settings: Settings, load_report: ReportLoader) -> list[Channel]:
    """The configured channels."""
    return [channel for make in CHANNELS if (channel := make(settings, load_report)) is not None]
