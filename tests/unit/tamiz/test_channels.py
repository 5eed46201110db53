"""Each notification channel against a real server: payload, retries, and secrets that are never shown."""

import logging
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from monitoring.alerting.notification import Notification, notification
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings
from tamiz.main import app
from tamiz.notifications.channels.catalogue import channels
from tamiz.notifications.channels.channel import Channel
from tamiz.notifications.retry import Delivery, RetryPolicy, deliver
from tests.helpers.services.alerting_servers import OpsgenieServer, PagerDutyServer, TeamsServer
from tests.helpers.services.certificates import create_certificates
from tests.helpers.services.notification_servers import HttpReceiver, closed_port, http_receiver, mail_receiver, serving
from tests.unit.monitoring.alerting.test_notification import ALERT

DOCS = (Path(__file__).parent.parent.parent.parent / "docs" / "notifications.md").read_text(encoding="utf-8")
QUICK = RetryPolicy(attempts=3, first_pause_s=0.01)
SECRET = "geheim"
NOTICE = Notification(
    id="drift-alerts-0-17",
    alias="i-7",
    change="opened",
    severity="critical",
    title="m v1: shift incident opened",
    text="score: PSI at least 0.21 over 24 h",
    model="m",
    model_version=1,
    happened_at_ms=1_580_000_000_000,
)


def is_ours(body: bytes, header: str, secret: str) -> bool:
    """The signature check of docs/notifications.md."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return bool(names["is_ours"](body, header, secret))


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


def only(**settings: Any) -> Channel:
    (channel,) = channels(Settings(**settings), lambda notice: b"%PDF-1.7")
    return channel


def hook(web: HttpReceiver, **settings: Any) -> Channel:
    return only(webhook_url=Secret(f"{web.url}/in?apiKey={SECRET}"), webhook_secret=Secret(SECRET), **settings)


def outcome(channel: Channel, retry_policy: RetryPolicy = QUICK) -> Delivery:
    found = deliver(channel, NOTICE, retry_policy, threading.Event())
    assert found is not None
    return found


def test_a_webhook_gets_a_signed_notification_that_it_can_check(web: HttpReceiver) -> None:
    assert outcome(hook(web)).problem is None
    (request,) = web.requests
    assert msgspec.json.decode(request.body, type=Notification) == NOTICE
    assert request.path == f"/in?apiKey={SECRET}"
    assert (request.headers["Content-Type"], request.headers["Tamiz-Delivery"]) == ("application/json", NOTICE.id)
    signature = request.headers["Tamiz-Signature"]
    assert is_ours(request.body, signature, SECRET)
    assert not is_ours(request.body + b" ", signature, SECRET)
    assert not is_ours(request.body, signature, "another")
    assert not is_ours(request.body, re.sub(r"t=\d+", "t=1580000000", signature), SECRET)


def outcomes(channel: Channel, *changes: dict[str, Any]) -> list[str | None]:
    """Result of the notice with each change: the problem, or None if delivered."""
    found = (deliver(channel, replace(NOTICE, **c), QUICK, threading.Event()) for c in changes)
    return [d.problem for d in found if d is not None]


OPENED: dict[str, Any] = {"change": "opened", "severity": "warning"}
GREW: dict[str, Any] = {"change": "grew", "severity": "critical"}
CLOSED: dict[str, Any] = {"change": "closed", "severity": "info"}


def opsgenie(server: OpsgenieServer, key: str = OpsgenieServer.KEY) -> Channel:
    return only(opsgenie_api_key=Secret(key), opsgenie_url=server.url)


def test_an_incident_is_one_opsgenie_alert_that_is_raised_and_closed_with_it() -> None:
    with serving(OpsgenieServer()) as server:
        channel = opsgenie(server)
        assert outcomes(channel, OPENED) == [None]
        assert server.open == {"i-7": ("P3", 1)}
        assert outcomes(channel, OPENED, GREW) == [None, None]
        assert server.open == {"i-7": ("P1", 3)}
        assert outcomes(channel, {"alias": "../i/8?x"}, CLOSED) == [None, None]
        assert server.open == {"../i/8?x": ("P1", 1)}
        assert outcomes(channel, {"alias": "../i/8?x", **CLOSED}, CLOSED) == [None, None]
        assert server.open == {}


def test_an_opsgenie_alert_keeps_to_the_limits_of_its_api() -> None:
    long = notification(replace(ALERT, summary="x" * 50_000, model="m" * 5_000, incident_id="i" * 5_000), "a" * 500)
    with serving(OpsgenieServer()) as server:
        assert outcomes(opsgenie(server), {f: getattr(long, f) for f in NOTICE.__struct_fields__}) == [None]


def test_opsgenie_requests_are_retried_only_after_retryable_errors() -> None:
    with serving(OpsgenieServer()) as server:
        assert outcome(opsgenie(server, "another"))[1:] == ("responded with 401", True)
        for code in (403, 422):
            server.answers.append((code, {}))
            assert outcome(opsgenie(server))[1:] == (f"responded with {code}", True)
        server.answers.extend([(429, {"Retry-After": "0"}), (503, {})])
        assert outcome(opsgenie(server)).problem is None
    assert len(server.requests) == 6


def pagerduty(server: PagerDutyServer, key: str = PagerDutyServer.KEY) -> Channel:
    return only(pagerduty_routing_key=Secret(key), pagerduty_url=server.url)


def test_an_incident_is_one_pagerduty_alert_that_is_triggered_and_resolved_with_it() -> None:
    with serving(PagerDutyServer()) as server:
        channel = pagerduty(server)
        assert outcomes(channel, OPENED) == [None]
        assert server.open == {"i-7": "warning"}
        assert outcomes(channel, GREW, {"alias": "i-8", "severity": "info"}) == [None, None]
        assert server.open == {"i-7": "critical", "i-8": "info"}
        assert outcomes(channel, CLOSED) == [None]
        assert server.open == {"i-8": "info"}
    assert msgspec.json.decode(server.requests[-1].body) == {
        "routing_key": PagerDutyServer.KEY,
        "event_action": "resolve",
        "dedup_key": "i-7",
    }


def test_a_pagerduty_event_keeps_to_the_limits_of_its_api() -> None:
    long = notification(replace(ALERT, summary="x" * 50_000, model="m" * 5_000, incident_id="i" * 5_000), "a" * 500)
    with serving(PagerDutyServer()) as server:
        assert outcomes(pagerduty(server), {f: getattr(long, f) for f in NOTICE.__struct_fields__}) == [None]


def test_pagerduty_requests_are_retried_only_after_retryable_errors() -> None:
    with serving(PagerDutyServer()) as server:
        assert outcome(pagerduty(server, "x" * 32))[1:] == ("responded with 400", True)
        server.answers.extend([(429, {}), (500, {})])
        assert outcome(pagerduty(server)).problem is None
    assert len(server.requests) == 4


def test_teams_gets_a_card_in_which_no_text_is_markup() -> None:
    nasty = {"text": "[pay](https://evil.example) <at>everybody</at> **now**"}
    with serving(TeamsServer()) as server:
        channel = only(teams_webhook=Secret(server.webhook))
        assert outcomes(channel, {}, nasty) == [None, None]
    assert server.cards[0] == [NOTICE.title, NOTICE.text, "critical, m version 1, i-7"]
    assert server.cards[1][1] == nasty["text"]  # a text run is not parsed as Markdown


def test_the_largest_notification_fits_a_card_of_teams() -> None:
    long = notification(replace(ALERT, summary="ñ" * 50_000, model="m" * 5_000, incident_id="i" * 5_000), "a" * 500)
    with serving(TeamsServer()) as server:
        channel = only(teams_webhook=Secret(server.webhook))
        assert outcomes(channel, {f: getattr(long, f) for f in NOTICE.__struct_fields__}) == [None]
        server.answers.append((429, {"Retry-After": "0"}))
        assert outcome(channel).problem is None
        assert outcome(only(teams_webhook=Secret(server.webhook + "x")))[1:] == ("responded with 401", True)
    assert len(server.cards) == 2


def test_a_retryable_error_is_retried_and_the_notification_delivered_once(web: HttpReceiver) -> None:
    web.answers.extend([(500, {}), (429, {"Retry-After": "0"})])
    assert outcome(hook(web)).problem is None
    assert len(web.requests) == 3
    assert len({request.headers["Tamiz-Delivery"] for request in web.requests}) == 1


def test_delivery_ends_after_the_last_attempt(web: HttpReceiver) -> None:
    web.usually = 503
    assert outcome(hook(web))[1:] == ("responded with 503", False)
    assert len(web.requests) == QUICK.attempts


@pytest.mark.parametrize("code", [400, 403, 404, 410])
def test_a_permanent_error_is_not_retried(web: HttpReceiver, code: int) -> None:
    web.usually = code
    assert outcome(hook(web))[1:] == (f"responded with {code}", True)
    assert len(web.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(web: HttpReceiver, code: int) -> None:
    with http_receiver() as elsewhere:
        web.answers.append((code, {"Location": elsewhere.url}))
        assert outcome(hook(web))[1:] == (f"responded with {code}; redirects are not followed", True)
        assert elsewhere.requests == []


def test_a_stop_ends_the_pause_before_a_retry(web: HttpReceiver) -> None:
    web.usually = 500
    stop = threading.Event()
    stop.set()
    assert deliver(hook(web), NOTICE, RetryPolicy(first_pause_s=3600), stop) is None


def test_slack_gets_title_and_text_with_an_emoji(web: HttpReceiver) -> None:
    assert outcome(only(slack_webhook=Secret(f"{web.url}/services/{SECRET}"))).problem is None
    assert msgspec.json.decode(web.requests[0].body) == {
        "text": ":rotating_light: `m v1: shift incident opened`\n`score: PSI at least 0.21 over 24 h`"
    }


def mail_settings(port: int, **more: Any) -> dict[str, Any]:
    who = {"mail_from": "tamiz@example.org", "mail_to": "ana@example.org, leo@example.org"}
    return {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none", **who, **more}


def test_mail_attaches_the_report() -> None:
    with mail_receiver() as server:
        assert outcome(only(**mail_settings(server.port))).problem is None
    (mail,) = server.mails
    assert mail["Subject"] == "[critical] m v1: shift incident opened"
    assert server.to == [["ana@example.org", "leo@example.org"]]
    body = mail.get_body()
    assert body is not None
    assert "PSI at least 0.21" in body.get_content()
    (pdf,) = mail.iter_attachments()
    assert (pdf.get_content_type(), pdf.get_filename()) == ("application/pdf", "m-v1.pdf")
    assert pdf.get_content().startswith(b"%PDF")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """TLS context of a server, and the certificate authority that a client must trust."""
    authority, (server,) = create_certificates(tmp_path_factory.mktemp("pem"), "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    return context, authority.certificate


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_needs_a_trusted_certificate_and_a_valid_login(
    tls: tuple[ssl.SSLContext, Path], security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = tls
    with mail_receiver(context, from_the_start=security == "tls", login=("ana", SECRET)) as server:
        who = {"smtp_username": "ana", "smtp_security": security}
        right = only(**mail_settings(server.port, smtp_password=Secret(SECRET), **who))
        wrong = only(**mail_settings(server.port, smtp_password=Secret("falsch"), **who))
        assert outcome(right).problem is not None, "the certificate authority is not trusted"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))  # as OpenSSL reads it
        assert outcome(wrong)[1:] == ("responded with 535", True)
        unwritable = only(**mail_settings(server.port, smtp_password=Secret("señal"), **who))
        assert outcome(unwritable).refused
        assert server.mails == []
        assert outcome(right).problem is None
        assert len(server.mails) == 1


def test_a_server_without_starttls_gets_no_mail() -> None:
    with mail_receiver() as server:
        refused = outcome(only(**mail_settings(server.port, smtp_security="starttls")))
    assert (refused.refused, server.mails) == (True, [])


def test_mail_is_retried_after_4xx_and_not_after_5xx() -> None:
    with mail_receiver() as server:
        channel = only(**mail_settings(server.port, mail_to="ana@example.org"))
        server.refusals.extend(["451 later", "550 no such mailbox"])
        assert outcome(channel)[1:] == ("responded with 550", True)
        assert outcome(channel).problem is None
    assert len(server.mails) == 1


def test_no_text_about_a_failure_contains_a_secret(web: HttpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web.answers.append((301, {"Location": f"http://127.0.0.1:1/{SECRET}"}))
    with closed_port() as port:
        unreachable = f"http://127.0.0.1:{port}/{SECRET}"
        found = [
            hook(web),
            only(slack_webhook=Secret(unreachable)),
            only(teams_webhook=Secret(unreachable)),
            only(opsgenie_api_key=Secret(SECRET), opsgenie_url=f"http://127.0.0.1:{port}"),
            only(opsgenie_api_key=Secret(f"{SECRET}\n"), opsgenie_url=web.url),
            only(pagerduty_routing_key=Secret(SECRET), pagerduty_url=f"http://127.0.0.1:{port}"),
            only(webhook_url=Secret(unreachable), webhook_secret=Secret(SECRET)),
            only(slack_webhook=Secret(f"http://no-such-host.invalid/{SECRET}")),
            only(slack_webhook=Secret(f"http://a..b/{SECRET}")),
            only(**mail_settings(port, smtp_username="ana", smtp_password=Secret(SECRET))),
            only(**mail_settings(25) | {"smtp_host": "a..b"}, smtp_username="ana", smtp_password=Secret(SECRET)),
        ]
        problems = [outcome(channel).problem for channel in found]
    assert None not in problems
    shown = [*problems, *(r.where for r in found), *(repr(r) for r in found), caplog.text]
    assert [text for text in shown if SECRET in str(text)] == []


def test_notifier_test_sends_to_every_channel_and_prints_results(
    web: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mail_receiver() as server,
        closed_port() as port,
        serving(OpsgenieServer()) as opsgenie_server,
        serving(PagerDutyServer()) as pagerduty_server,
        serving(TeamsServer()) as teams_server,
    ):
        monkeypatch.setenv("TAMIZ_SLACK_WEBHOOK", f"{web.url}/{SECRET}")
        monkeypatch.setenv("TAMIZ_TEAMS_WEBHOOK", teams_server.webhook)
        monkeypatch.setenv("TAMIZ_OPSGENIE_API_KEY", OpsgenieServer.KEY)
        monkeypatch.setenv("TAMIZ_OPSGENIE_URL", opsgenie_server.url)
        monkeypatch.setenv("TAMIZ_PAGERDUTY_ROUTING_KEY", PagerDutyServer.KEY)
        monkeypatch.setenv("TAMIZ_PAGERDUTY_URL", pagerduty_server.url)
        for name, value in mail_settings(server.port).items():
            monkeypatch.setenv(f"TAMIZ_{name.upper()}", str(value))
        assert CliRunner().invoke(app, ["notifier", "test"]).exit_code == 0
        monkeypatch.setenv("TAMIZ_WEBHOOK_URL", f"http://127.0.0.1:{port}/{SECRET}")
        monkeypatch.setenv("TAMIZ_WEBHOOK_SECRET", SECRET)
        tried = CliRunner().invoke(app, ["notifier", "test", "--json"])
        table = CliRunner().invoke(app, ["notifier", "test"])
    assert (tried.exit_code, table.exit_code) == (1, 1)
    assert [(d["channel"], d["delivered"]) for d in msgspec.json.decode(tried.stdout)] == [
        ("slack", True),
        ("teams", True),
        ("mail", True),
        ("opsgenie", True),
        ("pagerduty", True),
        ("webhook", False),
    ]
    assert (len(web.requests), len(server.mails)) == (3, 3)
    assert "Connection refused" in tried.stdout
    assert "delivered" in table.stdout
    assert (len(teams_server.cards), opsgenie_server.open, pagerduty_server.open) == (
        3,
        {"tamiz-test": ("P5", 3)},
        {"tamiz-test": "info"},
    )
    shown = tried.output + table.output
    assert [s for s in (SECRET, OpsgenieServer.KEY, PagerDutyServer.KEY) if s in shown] == []
