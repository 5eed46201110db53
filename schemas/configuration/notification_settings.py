"""Validation of the notification settings: which of them require each other. Pure."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from schemas.configuration.kafka_config import Secret
from schemas.errors import ConfigError
from schemas.security.hosts import is_loopback

_ADDRESS = re.compile(r"[!-~]+@[!-~]+", re.ASCII)
PLAINTEXT = "allow_plaintext_channels"
URLS = ("slack_webhook", "teams_webhook", "webhook_url", "opsgenie_url", "pagerduty_url")
_KEYS = {
    "opsgenie_api_key": (re.compile(r"[!-~]+", re.ASCII), "the key of an API integration"),
    "pagerduty_routing_key": (re.compile(r"[0-9A-Za-z]{32}", re.ASCII), "an integration key of 32 letters and digits"),
}
_OF_MAIL = ("mail_from", "mail_to", "smtp_username", "smtp_password")


def check_channels(values: Mapping[str, Any]) -> None:
    """Raise ConfigError, with the setting and the remedy, if a channel is incomplete or insecure. Shows no secret.

    values: the settings that have a value, by name.
    """
    for name in URLS:
        if name not in values:
            continue
        url = values[name].reveal() if isinstance(values[name], Secret) else values[name]
        if not _is_url(url):
            raise ConfigError(
                f"{name} is {values[name]}, not a URL; expected http(s)://host[:port]/path, without a user name in it"
            )
        if urlsplit(url).scheme == "http":
            _check_plaintext(values, name, str(urlsplit(url).hostname), "use https")
    for name, (pattern, wanted) in _KEYS.items():
        if name in values and not pattern.fullmatch(values[name].reveal()):
            raise ConfigError(f"{name} is ***; expected {wanted}, without blanks around it")
    if ("webhook_url" in values) != ("webhook_secret" in values):
        raise ConfigError("webhook_url and webhook_secret go together: requests are signed; set both or neither")
    if "smtp_host" not in values:
        if alone := [name for name in _OF_MAIL if name in values]:
            raise ConfigError(f"{alone[0]} is set without smtp_host; set smtp_host to the mail server")
        return
    if missing := [name for name in ("mail_from", "mail_to") if name not in values]:
        raise ConfigError(f"smtp_host is set without {missing[0]}; set mail_from and mail_to")
    for name in ("mail_from", "mail_to"):
        addresses = values[name].split(",") if name == "mail_to" else [values[name]]
        if bad := [a for a in addresses if a.count("@") != 1 or not _ADDRESS.fullmatch(a.strip())]:
            raise ConfigError(f"{name}: {bad[0]!r} is not a mail address; expected somebody@example.org in ASCII")
    if ("smtp_username" in values) != ("smtp_password" in values):
        raise ConfigError("smtp_username and smtp_password go together; set both or neither")
    if "smtp_username" in values and values.get("smtp_security") == "none":
        raise ConfigError("smtp_security none would send smtp_password unencrypted; set starttls or tls")
    if values.get("smtp_security") == "none":
        _check_plaintext(values, "smtp_security", values["smtp_host"], "set starttls or tls")


def _check_plaintext(values: Mapping[str, Any], name: str, host: str, remedy: str) -> None:
    # A webhook's URL is a credential, and alerts name features of cards and models.
    if not is_loopback(host) and not values.get(PLAINTEXT, False):
        raise ConfigError(
            f"{name} would send alerts unencrypted to another machine: {remedy}, or set {PLAINTEXT} to true if the "
            "network is private"
        )


def _is_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  raises ValueError if it is invalid
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and url.username is None
