"""Notification texts, rate limits, and the settings of channels that depend on each other."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerting.notification import Notification, notification
from monitoring.alerting.rate_limit import (
    MAX_PER_WINDOW,
    MAX_STATE_BYTES,
    OTHER_ALIASES,
    WINDOW_S,
    DeliveryState,
    RateLimiter,
    digest,
    read_delivery_state,
    suppressed_counts,
)
from schemas.configuration.settings import SECRETS, load
from schemas.errors import ConfigError
from schemas.json_codec import decode
from schemas.records import DriftAlert, ModelEvent
from tamiz.notifications.channels import opsgenie, pagerduty, slack, teams
from tamiz.notifications.channels.mail import message

ALERT = DriftAlert(
    incident_id="i-7",
    change="opened",
    kind="shift",
    severity="critical",
    model="card-transactions",
    model_version=1,
    features=("score",),
    summary="score: PSI at least 0.21 over 24 h",
    opened_at_ms=1_580_000_000_000,
    happened_at_ms=1_580_000_000_000,
    evidence=(),
    examples=(),
)
EVENT = ModelEvent(
    model="card-transactions",
    model_version=2,
    change="promoted",
    reason="better than the champion",
    by="retrainer",
    happened_at_ms=1_580_000_000_000,
    correlation_id="loop-1",
)


def built(record: DriftAlert | ModelEvent = ALERT, id_: str = "drift-alerts-0-0", **changes: Any) -> Notification:
    found = notification(msgspec.structs.replace(record, **changes), id_)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("record", "changes", "severity"),
    [
        pytest.param(ALERT, {}, "critical", id="alert"),
        pytest.param(ALERT, {"severity": "warning", "change": "grew"}, "warning", id="grew"),
        pytest.param(ALERT, {"change": "closed"}, "info", id="closed"),
        pytest.param(EVENT, {}, "info", id="promoted"),
        pytest.param(EVENT, {"change": "awaiting-approval"}, "warning", id="awaiting"),
        pytest.param(EVENT, {"change": "training-failed", "model_version": None}, "warning", id="failed"),
        pytest.param(EVENT, {"change": "rolled-back"}, "warning", id="rolled back"),
        pytest.param(EVENT, {"change": "retained"}, "info", id="retained"),
    ],
)
def test_severity_of_each_change(record: DriftAlert | ModelEvent, changes: dict[str, Any], severity: str) -> None:
    assert built(record, **changes).severity == severity


@pytest.mark.parametrize("change", ["training-started", "registered"])
def test_intermediate_steps_need_no_notification(change: str) -> None:
    assert notification(msgspec.structs.replace(EVENT, change=change), "model-events-0-0") is None


def test_a_request_for_approval_names_the_command() -> None:
    assert "tamiz models promote 2" in built(EVENT, change="awaiting-approval").text


def test_an_attack_names_the_command_that_blocks_its_cards_and_shows_only_the_ends_of_their_keys() -> None:
    cards = ("4111111111111111", "17")
    text = built(kind="attack", summary="few cards", cards=cards).text
    command = "tamiz lists add stolen --from-alert i-7 --effect block --reason WHY"
    assert text == f"few cards. Cards: …1111, …. To block them: {command}"
    assert "lists add" not in built(kind="burst", cards=cards).text, "a merchant's batch upload is not blocked"
    assert "lists add" not in built(kind="attack", cards=cards, change="closed").text


def test_text_of_a_record_cannot_mention_people_or_add_a_header() -> None:
    nasty = built(summary="<!channel> & <http://x|y>\r\nBcc: @all [x](https://y) `z`", model="m\r\nBcc: x@y.z")
    text = msgspec.json.decode(slack.message(nasty))["text"]
    assert [part for part in ("<", "@all", "](", "://", "x@y", "\r") if part in text] == []
    assert text.count("`") == 4
    assert "&lt;!channel&gt; &amp; " in text
    mail = message(nasty, "tamiz@example.org", "ana@example.org", None)
    assert mail["Bcc"] is None
    assert b"\nBcc:" not in mail.as_bytes()


@pytest.mark.parametrize(
    ("record", "changes", "resolved"),
    [
        pytest.param(ALERT, {}, False, id="opened"),
        pytest.param(ALERT, {"change": "grew"}, False, id="grew"),
        pytest.param(ALERT, {"change": "closed"}, True, id="closed"),
        pytest.param(EVENT, {"change": "awaiting-approval"}, False, id="awaiting approval"),
        pytest.param(EVENT, {"change": "training-failed"}, False, id="training failed"),
        pytest.param(EVENT, {"change": "rolled-back"}, False, id="rolled back"),
        pytest.param(EVENT, {"change": "promoted"}, True, id="promoted"),
        pytest.param(EVENT, {"change": "rejected"}, True, id="rejected"),
        pytest.param(EVENT, {"change": "retained"}, True, id="retained"),
    ],
)
def test_changes_that_resolve(record: DriftAlert | ModelEvent, changes: dict[str, Any], resolved: bool) -> None:
    assert built(record, **changes).resolved is resolved


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALUES = {
    "incident_id": st.text(), "correlation_id": st.text(), "kind": st.sampled_from(["shift", "data"]), "by": st.text(),
    "change": st.sampled_from(["opened", "closed", "promoted", "awaiting-approval"]), "reason": st.text(),
    "severity": st.just("critical"), "model": st.text(), "model_version": st.integers(), "summary": st.text(),
    "features": st.just([]), "evidence": st.just([]), "examples": st.just([]), "opened_at_ms": st.just(0),
    "happened_at_ms": st.integers() | st.integers(10**10, 10**30),
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries(VALUES), st.dictionaries(st.sampled_from(sorted(VALUES)), ANY, max_size=1))
def test_any_record_becomes_a_valid_message_or_none(record: dict[str, Any], odd: dict[str, Any]) -> None:
    value = msgspec.json.encode({**record, **odd})
    for type_ in (DriftAlert, ModelEvent):
        try:
            found = notification(decode(value, type_), "t-0-0")
        except msgspec.DecodeError:
            continue
        if found is not None:
            bodies = (teams.message(found), opsgenie.alert(found), pagerduty.event(found, "key"))
            assert all(isinstance(msgspec.json.decode(msgspec.json.encode(body)), dict) for body in bodies)
            assert isinstance(msgspec.json.decode(slack.message(found)), dict)
            assert message(found, "a@b.c", "d@e.f", None).as_bytes()


#  minutes   0      2        9.9      10
#  grew      sent   no       no       sent
def test_a_repeat_is_suppressed_within_the_window_unless_it_is_more_severe() -> None:
    limit = RateLimiter()
    grew = [built(id_=f"a-0-{i}", change="grew", severity="warning") for i in range(4)]
    admitted = [limit.allow(n, at) for n, at in zip(grew, (0, 120, WINDOW_S - 1, WINDOW_S), strict=True)]
    assert admitted == [True, False, False, True]
    assert limit.allow(built(id_="a-0-5", change="grew", severity="critical"), WINDOW_S + 1)
    assert limit.allow(built(id_="a-0-6", change="closed"), WINDOW_S + 2)


def test_a_redelivered_record_is_not_a_repeat() -> None:
    limit = RateLimiter()
    assert [limit.allow(built(), 0), limit.allow(built(), 1)] == [True, True]


def test_half_of_the_limit_is_reserved_for_critical_notifications() -> None:
    limit = RateLimiter()

    def admitted(severity: str, n: int) -> int:
        many = [built(id_=f"{severity}-{i}", incident_id=f"{severity}-{i}", severity=severity) for i in range(n)]
        return sum(limit.allow(notice, 0) for notice in many)

    assert admitted("warning", 100) == MAX_PER_WINDOW // 2
    assert admitted("critical", 100) == MAX_PER_WINDOW - MAX_PER_WINDOW // 2
    assert limit.allow(built(id_="later"), WINDOW_S)


def test_a_digest_counts_suppressed_notifications_with_their_highest_severity() -> None:
    first, second = DeliveryState(), DeliveryState()
    for severity, state in (("warning", first), ("critical", first), ("warning", second)):
        state.suppress("slack", built(severity=severity))
    second.suppress("slack", built(incident_id="i-8", change="closed"))
    second.suppress("mail", built())
    counts = suppressed_counts([read_delivery_state(first.encode()), read_delivery_state(second.encode())], "slack")
    notice = digest("slack", counts, model="m", now_ms=0)
    assert (notice.severity, notice.text) == ("critical", "i-7: 3, i-8: 1")
    assert "notifications not sent here: 4, critical: 1" in notice.title


def test_the_state_fits_in_offset_metadata_and_loses_no_count() -> None:
    state = DeliveryState(done=["slack"])
    for i in range(300):
        state.suppress("slack", built(incident_id=f"{i}-" + "é" * 100))
        assert len(state.encode().encode()) <= MAX_STATE_BYTES
    kept = suppressed_counts([state], "slack")
    assert sum(n for by_severity in kept.values() for n in by_severity.values()) == 300
    assert OTHER_ALIASES in kept


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"done": 3}', '{"suppressed": {"slack": {"a": {"loud": 1}}}}'])
def test_unreadable_metadata_is_an_empty_state(text: str) -> None:
    assert read_delivery_state(text) == DeliveryState()


MAIL = {"TAMIZ_SMTP_HOST": "mail", "TAMIZ_MAIL_FROM": "a@b.c", "TAMIZ_MAIL_TO": "d@e.f, g@h.i"}
HOOK = {"TAMIZ_WEBHOOK_URL": "https://hooks.example/x?apiKey=geheim", "TAMIZ_WEBHOOK_SECRET": "geheim"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "geheim"}, ["slack_webhook", "http(s)://"], id="no URL"),
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "file:///geheim"}, ["slack_webhook", "http(s)://"], id="a file"),
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "http://geheim:geheim@h/"}, ["slack_webhook", "user name"], id="login"),
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "http://h/geheim\n"}, ["slack_webhook"], id="line feed"),
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "http://h:geheim/"}, ["slack_webhook"], id="invalid port"),
        pytest.param({"TAMIZ_WEBHOOK_URL": "https://h/geheim"}, ["webhook_secret", "both"], id="no secret"),
        pytest.param({"TAMIZ_WEBHOOK_SECRET": "geheim"}, ["webhook_url", "both"], id="no address"),
        pytest.param({"TAMIZ_SLACK_WEBHOOK": "http://h:1/geheim"}, ["slack_webhook", "https"], id="http to Slack"),
        pytest.param(
            HOOK | {"TAMIZ_WEBHOOK_URL": "HTTP://127.0.0.1.example.org/geheim"},
            ["webhook_url", "https", "allow_plaintext_channels"],
            id="http to a webhook",
        ),
        pytest.param(
            HOOK | {"TAMIZ_WEBHOOK_URL": "http://2130706433/geheim"}, ["webhook_url", "https"], id="an odd address"
        ),
        pytest.param(
            MAIL | {"TAMIZ_SMTP_SECURITY": "none"},
            ["smtp_security", "starttls", "allow_plaintext_channels"],
            id="mail without TLS",
        ),
        pytest.param({"TAMIZ_SMTP_HOST": "mail"}, ["smtp_host", "mail_from"], id="no sender"),
        pytest.param(MAIL | {"TAMIZ_MAIL_TO": "d@e.f, ana"}, ["mail_to", "' ana'"], id="no address"),
        pytest.param(MAIL | {"TAMIZ_MAIL_TO": "d@e.f\nBcc: x@y.z"}, ["mail_to", "not a mail address"], id="header"),
        pytest.param({"TAMIZ_MAIL_TO": "d@e.f"}, ["mail_to", "smtp_host"], id="no server"),
        pytest.param({"TAMIZ_TEAMS_WEBHOOK": "geheim"}, ["teams_webhook", "http"], id="no URL of Teams"),
        pytest.param({"TAMIZ_OPSGENIE_API_KEY": "geheim\n"}, ["opsgenie_api_key", "blanks"], id="key with a line feed"),
        pytest.param({"TAMIZ_OPSGENIE_URL": "http://h"}, ["opsgenie_url", "https"], id="http to Opsgenie"),
        pytest.param({"TAMIZ_PAGERDUTY_URL": "events"}, ["pagerduty_url", "http"], id="no URL of PagerDuty"),
        pytest.param({"TAMIZ_PAGERDUTY_ROUTING_KEY": "geheim"}, ["pagerduty_routing_key", "32"], id="short key"),
        pytest.param(MAIL | {"TAMIZ_SMTP_PASSWORD": "geheim"}, ["smtp_username", "both"], id="password without a user"),
        pytest.param(
            MAIL | {"TAMIZ_SMTP_USERNAME": "ana", "TAMIZ_SMTP_PASSWORD": "geheim", "TAMIZ_SMTP_SECURITY": "none"},
            ["smtp_security", "starttls"],
            id="password without TLS",
        ),
    ],
)
def test_an_invalid_channel_setting_is_refused_in_one_line_without_its_secret(
    environ: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    text = str(caught.value)
    assert [word for word in words if word not in text] == []
    assert "geheim" not in text
    assert "\n" not in text


def test_valid_channel_settings_load_and_hide_their_secrets() -> None:
    found = load(
        MAIL
        | HOOK
        | {"TAMIZ_SMTP_USERNAME": "ana", "TAMIZ_SMTP_PASSWORD": "geheim", "TAMIZ_SLACK_WEBHOOK": "https://h:1/geheim"}
    )
    assert found.webhook_url is not None
    assert found.webhook_url.reveal().endswith("geheim")
    assert "geheim" not in repr(found)
    assert {"slack_webhook", "webhook_url", "webhook_secret", "smtp_password"} <= SECRETS
    assert {"teams_webhook", "opsgenie_api_key", "pagerduty_routing_key"} <= SECRETS


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_plaintext_channels_are_allowed_on_loopback_and_by_setting(host: str) -> None:
    plain = MAIL | {"TAMIZ_SMTP_SECURITY": "none", "TAMIZ_SLACK_WEBHOOK": f"http://{host}:9/x"}
    assert load(plain | {"TAMIZ_SMTP_HOST": host.strip("[]")}).slack_webhook is not None
    assert (
        load(plain | {"TAMIZ_SLACK_WEBHOOK": "http://h/x", "TAMIZ_ALLOW_PLAINTEXT_CHANNELS": "true"}).smtp_host
        == "mail"
    )
