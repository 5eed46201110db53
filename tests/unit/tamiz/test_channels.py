"""Each kind of receiver against a real server: what it gets, what is tried again, and what never shows."""

import logging
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from monitoring.alerting.notification_formats import Notification
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings
from tamiz.main import app
from tamiz.notifications.channels import Channel, channels
from tamiz.notifications.retry import Delivery, RetryPolicy, deliver
from tests.helpers.services.certificates import authority_and
from tests.helpers.services.notification_servers import HttpReceiver, http_receiver, mail_receiver, nobody

DOCS = (Path(__file__).parent.parent.parent.parent / "docs" / "notifications.md").read_text(encoding="utf-8")
QUICK = RetryPolicy(attempts=3, first_pause_s=0.01)
SECRET = "geheim"
NOTICE = Notification(
    id="drift-alerts-0-17",
    alias="i-7",
    change="opened",
    severity="critical",
    title="m v1: shift incident opened",
    text="score: PSI surely above 0.21 over 24 h",
    model="m",
    model_version=1,
    happened_at_ms=1_580_000_000_000,
)


def is_ours(body: bytes, header: str, secret: str) -> bool:
    """As docs/notifications.md teaches it."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return bool(names["is_ours"](body, header, secret))


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


def only(**settings: Any) -> Channel:
    (receiver,) = channels(Settings(**settings), lambda notice: b"%PDF-1.7")
    return receiver


def hook(web: HttpReceiver, **settings: Any) -> Channel:
    return only(webhook_url=Secret(f"{web.url}/in?apiKey={SECRET}"), webhook_secret=Secret(SECRET), **settings)


def outcome(receiver: Channel, patience: RetryPolicy = QUICK) -> Delivery:
    found = deliver(receiver, NOTICE, patience, threading.Event())
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


def test_a_webhook_in_opsgenies_shape_opens_an_alert(web: HttpReceiver) -> None:
    assert outcome(hook(web, webhook_format="opsgenie")).problem is None
    body = msgspec.json.decode(web.requests[0].body)
    assert {k: body[k] for k in ("message", "alias", "priority")} == {
        "message": NOTICE.title,
        "alias": "i-7",
        "priority": "P1",
    }


def test_what_fails_for_now_is_tried_again_and_told_once(web: HttpReceiver) -> None:
    web.answers.extend([(500, {}), (429, {"Retry-After": "0"})])
    assert outcome(hook(web)).problem is None
    assert len(web.requests) == 3
    assert len({request.headers["Tamiz-Delivery"] for request in web.requests}) == 1


def test_what_goes_on_failing_is_given_up(web: HttpReceiver) -> None:
    web.usually = 503
    assert outcome(hook(web))[1:] == ("answered 503", False)
    assert len(web.requests) == QUICK.attempts


@pytest.mark.parametrize("code", [400, 403, 404, 410])
def test_a_refusal_for_good_is_not_tried_again(web: HttpReceiver, code: int) -> None:
    web.usually = code
    assert outcome(hook(web))[1:] == (f"answered {code}", True)
    assert len(web.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(web: HttpReceiver, code: int) -> None:
    with http_receiver() as elsewhere:
        web.answers.append((code, {"Location": elsewhere.url}))
        assert outcome(hook(web))[1:] == (f"answered {code}, and redirects are not followed", True)
        assert elsewhere.requests == []


def test_a_stop_ends_the_wait_for_another_attempt(web: HttpReceiver) -> None:
    web.usually = 500
    stop = threading.Event()
    stop.set()
    assert deliver(hook(web), NOTICE, RetryPolicy(first_pause_s=3600), stop) is None


def test_slack_gets_its_text(web: HttpReceiver) -> None:
    assert outcome(only(slack_webhook=Secret(f"{web.url}/services/{SECRET}"))).problem is None
    assert msgspec.json.decode(web.requests[0].body) == {
        "text": ":rotating_light: `m v1: shift incident opened`\n`score: PSI surely above 0.21 over 24 h`"
    }


def mail_settings(port: int, **more: Any) -> dict[str, Any]:
    who = {"mail_from": "tamiz@example.org", "mail_to": "ana@example.org, leo@example.org"}
    return {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none", **who, **more}


def test_mail_brings_the_report() -> None:
    with mail_receiver() as server:
        assert outcome(only(**mail_settings(server.port))).problem is None
    (mail,) = server.mails
    assert mail["Subject"] == "[critical] m v1: shift incident opened"
    assert server.to == [["ana@example.org", "leo@example.org"]]
    body = mail.get_body()
    assert body is not None
    assert "PSI surely above 0.21" in body.get_content()
    (pdf,) = mail.iter_attachments()
    assert (pdf.get_content_type(), pdf.get_filename()) == ("application/pdf", "m-v1.pdf")
    assert pdf.get_content().startswith(b"%PDF")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's, and the authority that a client must trust."""
    authority, (server,) = authority_and(tmp_path_factory.mktemp("pem"), "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    return context, authority.certificate


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_sent_over_tls_with_a_login_or_not_at_all(
    tls: tuple[ssl.SSLContext, Path], security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = tls
    with mail_receiver(context, from_the_start=security == "tls", login=("ana", SECRET)) as server:
        who = {"smtp_username": "ana", "smtp_security": security}
        right = only(**mail_settings(server.port, smtp_password=Secret(SECRET), **who))
        wrong = only(**mail_settings(server.port, smtp_password=Secret("falsch"), **who))
        assert outcome(right).problem is not None, "nobody we trust vouches for it"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))  # as OpenSSL reads it
        assert outcome(wrong)[1:] == ("answered 535", True)
        unwritable = only(**mail_settings(server.port, smtp_password=Secret("señal"), **who))
        assert outcome(unwritable).refused
        assert server.mails == []
        assert outcome(right).problem is None
        assert len(server.mails) == 1


def test_a_server_that_offers_no_tls_gets_no_mail() -> None:
    with mail_receiver() as server:
        refused = outcome(only(**mail_settings(server.port, smtp_security="starttls")))
    assert (refused.refused, server.mails) == (True, [])


def test_mail_that_is_refused_for_now_is_tried_again_and_what_is_refused_for_good_is_not() -> None:
    with mail_receiver() as server:
        receiver = only(**mail_settings(server.port, mail_to="ana@example.org"))
        server.refusals.extend(["451 later", "550 nobody of that name"])
        assert outcome(receiver)[1:] == ("answered 550", True)
        assert outcome(receiver).problem is None
    assert len(server.mails) == 1


def test_nothing_that_is_said_of_a_failure_holds_a_secret(web: HttpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web.answers.append((301, {"Location": f"http://127.0.0.1:1/{SECRET}"}))
    with nobody() as port:
        away = f"http://127.0.0.1:{port}/{SECRET}"
        found = [
            hook(web),
            only(slack_webhook=Secret(away)),
            only(webhook_url=Secret(away), webhook_secret=Secret(SECRET)),
            only(slack_webhook=Secret(f"http://no-such-host.invalid/{SECRET}")),
            only(slack_webhook=Secret(f"http://a..b/{SECRET}")),
            only(**mail_settings(port, smtp_username="ana", smtp_password=Secret(SECRET))),
            only(**mail_settings(25) | {"smtp_host": "a..b"}, smtp_username="ana", smtp_password=Secret(SECRET)),
        ]
        problems = [outcome(receiver).problem for receiver in found]
    assert None not in problems
    shown = [*problems, *(r.where for r in found), *(repr(r) for r in found), caplog.text]
    assert [text for text in shown if SECRET in str(text)] == []


def test_notify_test_tries_everybody_and_says_who_was_told(web: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_receiver() as server, nobody() as port:
        monkeypatch.setenv("TAMIZ_SLACK_WEBHOOK", f"{web.url}/{SECRET}")
        for name, value in mail_settings(server.port).items():
            monkeypatch.setenv(f"TAMIZ_{name.upper()}", str(value))
        assert CliRunner().invoke(app, ["notifier", "test"]).exit_code == 0
        monkeypatch.setenv("TAMIZ_WEBHOOK_URL", f"http://127.0.0.1:{port}/{SECRET}")
        monkeypatch.setenv("TAMIZ_WEBHOOK_SECRET", SECRET)
        tried = CliRunner().invoke(app, ["notifier", "test", "--json"])
        table = CliRunner().invoke(app, ["notifier", "test"])
    assert (tried.exit_code, table.exit_code) == (1, 1)
    assert [(d["receiver"], d["delivered"]) for d in msgspec.json.decode(tried.stdout)] == [
        ("slack", True),
        ("mail", True),
        ("webhook", False),
    ]
    assert (len(web.requests), len(server.mails)) == (3, 3)
    assert "Connection refused" in tried.stdout
    assert "delivered" in table.stdout
    assert SECRET not in tried.output + table.output
