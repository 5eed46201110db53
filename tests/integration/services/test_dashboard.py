"""The dashboard in a real browser on a real broker and registry: live records, sign-in, and approvals."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from typer.testing import CliRunner

from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from schemas.records import ModelEvent
from stream_app.dashboard.topic_follower import TopicFollower
from tamiz.main import app
from tests.conftest import Kafka
from tests.helpers.services.browser_checks import CONTRAST, launched, reach_by_tab
from tests.helpers.services.dashboard_fixtures import PDF, RunningDashboard, decided, running_dashboard
from tests.helpers.services.worker_process import read_topic, wait_for
from training.registry import mlflow_registry

pytestmark = pytest.mark.kafka
PATIENT_MS = 60_000


@pytest.fixture(scope="module")
def world(
    kafka: Kafka, simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDashboard]:
    with running_dashboard(
        kafka.bootstrap_servers, simulated_registry, tmp_path_factory.mktemp("dashboard")
    ) as running:
        running.send_transactions(200)
        running.drift()
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


@dataclass
class Tab:
    """A signed-in page, and the errors on its console."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def tab(browser: Browser, world: RunningDashboard) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENT_MS)
    expect.set_options(timeout=PATIENT_MS)
    opened = Tab(context.new_page())
    opened.page.on("console", lambda m: opened.complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.goto(world.url)
    opened.page.get_by_label("Token").fill(world.token)
    opened.page.get_by_role("button", name="Sign in").click()
    expect(opened.page.get_by_text("live", exact=True)).to_be_visible()
    yield opened
    context.close()


@pytest.fixture
def page(tab: Tab) -> Iterator[Page]:
    """The signed-in page; after each test its console must be empty."""
    yield tab.page
    assert tab.complaints == []


def test_decisions_appear_by_themselves_with_their_reasons(page: Page, world: RunningDashboard) -> None:
    page.evaluate("window.neverReloaded = true")
    world.send(world.settings.decisions_topic, decided("tx-fresh"))
    row = page.get_by_role("row").filter(has_text="tx-fresh")
    expect(row).to_contain_text("decline")
    expect(row).to_contain_text("monto 912.3: multiplies the odds")
    assert page.evaluate("window.neverReloaded") is True


def test_figures_and_charts_show_what_came(page: Page, world: RunningDashboard) -> None:
    assert world.state()["outcomes"]["approve"] > 100
    wait_for(lambda: any(p is not None for p in world.state()["seconds"]["p50_ms"]), 60, lambda: str(world.state()))
    for chart in ("#rate", "#latency", "#score"):
        expect(page.locator(f"{chart} canvas")).to_be_visible()
    expect(page.locator("#figures")).to_contain_text("v1")
    assert sum(world.state()["score"]["reference"]) == pytest.approx(1)


def test_drift_is_a_map_and_a_feature_shows_its_two_distributions(page: Page) -> None:
    expect(page.locator("#incidents")).to_contain_text("monto moved")
    page.get_by_label("Window").select_option("24 h")
    row = page.locator("#heat tr").filter(has=page.get_by_role("button", name="monto", exact=True))
    expect(row.locator("td.over").first).to_be_visible()
    expect(row).to_contain_text("0.02")
    row.locator("td.over").last.click()
    expect(page.locator("#feature-chart canvas")).to_be_visible()
    expect(page.locator("#feature-head")).to_contain_text("monto, 24 h")
    page.get_by_label("Window").select_option("6 h")
    expect(page.locator("#feature-head")).to_contain_text("monto, 6 h")
    expect(page.locator("#feature-words")).to_contain_text("alerts above 0.02")


def test_what_a_payload_calls_itself_is_text_and_nothing_inline_runs(page: Page, world: RunningDashboard) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    world.send(world.settings.decisions_topic, decided(evil, text=evil), b"{", b'{"decision_id": "\xff"}', b"")
    expect(page.locator("#recent td.id").filter(has_text="<img src=x").first).to_be_visible()
    assert page.locator("#recent img, #recent script").count() == 0
    assert page.title() == "Tamiz"
    expect(page.locator("#notices")).to_contain_text("3 invalid records on Tamiz topics were skipped")


def test_a_script_that_got_in_all_the_same_would_not_run(browser: Browser, world: RunningDashboard) -> None:
    context = browser.new_context()
    try:
        bare = context.new_page()
        bare.goto(f"{world.url}/signin")
        blocked = bare.evaluate(
            """() => new Promise((done) => {
                document.addEventListener("securitypolicyviolation", (e) => done(e.violatedDirective));
                document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='document.title=1'>");
                const script = document.createElement("script");
                script.textContent = "document.title = 'owned'";
                document.body.append(script);
            })"""
        )
        assert blocked.startswith("script-src")
        assert bare.title() == "Tamiz: sign in"
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_lies_behind_it(page: Page, scheme: Any) -> None:
    page.get_by_label("Window").select_option("24 h")
    expect(page.locator("#heat td.over").first).to_be_visible()
    page.emulate_media(color_scheme=scheme)
    try:
        found = page.evaluate(CONTRAST)
        assert found["looked"] > 100
        assert found["poor"] == []
    finally:
        page.emulate_media(color_scheme="light")


def test_everything_that_can_be_done_is_reached_by_tab(page: Page) -> None:
    expect(page.locator("#heat button").first).to_be_visible()
    wanted, missed = reach_by_tab(page)
    assert wanted > 20
    assert missed == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page) -> None:
    expect(page.locator("#heat button").first).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        page.wait_for_function("document.querySelector('#rate canvas').clientWidth < 340")
        assert page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_a_person_approves_on_the_page_and_the_version_is_champion(page: Page, world: RunningDashboard) -> None:
    version = world.register_version()
    card = page.locator("#waiting form").filter(has_text=f"Version {version}")
    expect(card).to_contain_text(f"version {version} is better, by proof")
    link = card.get_by_role("link", name=f"Report of version {version}")
    assert page.request.get(world.url + str(link.get_attribute("href"))).body() == PDF
    card.get_by_label("Reason").fill("we looked at its report")
    card.get_by_role("button", name=f"Approve version {version}").click()
    expect(page.locator("#result")).to_contain_text(f"Version {version} is promoted, by web:ana")
    expect(card).to_have_count(0)
    assert mlflow_registry.champion(world.settings) == version
    expect(page.locator("#events")).to_contain_text(f"version {version} promoted")
    records = read_topic(world.settings.bootstrap, world.settings.model_events_topic, at_least=1)
    event = msgspec.json.decode(records[-1].value, type=ModelEvent)
    assert (event.model_version, event.change, event.reason) == (version, "promoted", "we looked at its report")
    assert event.by == "web:ana"


def test_enter_in_the_reason_decides_nothing_and_a_reader_is_offered_no_decision(
    page: Page, world: RunningDashboard, browser: Browser
) -> None:
    version, champion = world.register_version(), mlflow_registry.champion(world.settings)
    card = page.locator("#waiting form").filter(has_text=f"Version {version}")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    card.get_by_label("Reason").fill("a word too early")
    card.get_by_label("Reason").press("Enter")
    card.get_by_label("Reason").press("Control+Enter")
    context = browser.new_context()
    try:
        reader = context.new_page()
        reader.goto(world.url)
        reader.get_by_label("Token").fill(world.reader_token)
        reader.get_by_label("Token").press("Enter")
        expect(reader.locator("#user")).to_have_text("leo", timeout=PATIENT_MS)
        waits = reader.locator("#waiting-list")
        expect(waits).to_contain_text(f"Version {version}", timeout=PATIENT_MS)
        expect(waits).to_contain_text("needs the role approve")
        assert reader.locator("#waiting button, #waiting input").count() == 0
        status = reader.evaluate(f"fetch('/models/{version}/approve', {{method: 'POST'}}).then((r) => r.status)")
        assert status == 403
    finally:
        context.close()
    assert (sent, mlflow_registry.champion(world.settings)) == ([], champion)
    expect(page.locator("#user")).to_have_text("ana")
    card.get_by_label("Reason").fill("a holiday")
    card.get_by_role("button", name=f"Reject version {version}").press("Enter")
    expect(page.locator("#result")).to_contain_text(f"Version {version} is rejected, by web:ana")


def test_a_person_rejects_and_a_page_that_is_late_is_told(page: Page, world: RunningDashboard) -> None:
    version, before = world.register_version(), mlflow_registry.champion(world.settings)
    card = page.locator("#waiting form").filter(has_text=f"Version {version}")
    card.get_by_label("Reason").fill("it was trained on a holiday")
    card.get_by_role("button", name=f"Reject version {version}").click()
    expect(page.locator("#result")).to_contain_text(f"Version {version} is rejected")
    assert (mlflow_registry.champion(world.settings), mlflow_registry.challenger(world.settings)) == (before, None)
    status, said = world.ask(f"/models/{version}/approve", form={"reason": "late"}, Origin=world.url)
    assert (status, b"no longer waits for approval" in said) == (409, True)
    assert mlflow_registry.champion(world.settings) == before


def test_a_page_that_hears_nothing_says_so_and_comes_back(page: Page, world: RunningDashboard) -> None:
    world.process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#status")).to_contain_text("stale: no data since")
    finally:
        world.process.send_signal(signal.SIGCONT)
    expect(page.get_by_text("live", exact=True)).to_be_visible()


def test_a_wrong_token_opens_nothing(browser: Browser, world: RunningDashboard) -> None:
    context = browser.new_context()
    try:
        stranger = context.new_page()
        stranger.goto(world.url)
        stranger.get_by_label("Token").fill(world.token[:-1])
        stranger.get_by_role("button", name="Sign in").click()
        expect(stranger.get_by_role("alert")).to_have_text("Invalid token.", timeout=PATIENT_MS)
        assert context.cookies() == []
    finally:
        context.close()


def test_the_cookie_is_not_the_token_and_no_script_reads_it(page: Page, world: RunningDashboard) -> None:
    (cookie,) = page.context.cookies()
    assert world.token not in cookie["value"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize(
    "path", ["/state", "/events", "/drift?window=1%20h", "/feature?name=monto", "/models/1/report.pdf"]
)
def test_machines_need_the_token_too(world: RunningDashboard, path: str) -> None:
    assert world.ask(path, token=None)[0] == 401
    assert world.ask(path, token=world.token + "x")[0] == 401


def test_whoever_changes_something_needs_token_origin_and_a_reason(world: RunningDashboard) -> None:
    act = "/models/1/approve"
    assert world.ask(act, form={"reason": "r"})[0] == 403, "no Origin"
    assert world.ask(act, form={"reason": "r"}, Origin="https://evil.example")[0] == 403
    assert world.ask(act, form={"reason": "r"}, Origin=world.url, token=None)[0] == 401
    assert world.ask(act, form={"reason": " "}, Origin=world.url)[0] == 400
    assert world.ask("/models/1/approve")[0] == 405


def test_health_is_open_and_what_is_not_there_is_said(world: RunningDashboard) -> None:
    assert world.ask("/livez", token=None) == (200, b'{"alive": true}')
    assert world.ask("/drift?window=a%20month")[0] == 404
    assert world.ask("/feature?name=nobody&window=1%20h")[0] == 404
    status, said = world.ask("/models/1/report.pdf")
    assert (status, b"tamiz report FILE --version 1" in said) == (404, True)


def test_a_page_that_others_could_reach_wants_users(tmp_path: Path) -> None:
    env = {"TAMIZ_WEB_HOST": "0.0.0.0", "TAMIZ_STATE_DIR": str(tmp_path)}
    result = CliRunner(env=env).invoke(app, ["dashboard"])
    assert isinstance(result.exception, ConfigError)
    assert "web_users_file" in str(result.exception)


def test_without_a_broker_it_says_so_and_goes_on_asking() -> None:
    reader = TopicFollower(Settings(bootstrap_servers="127.0.0.1:1"))
    reader.start()
    try:
        wait_for(lambda: "no Kafka broker responds" in str(reader.error), 60, lambda: str(reader.error))
        assert reader.is_alive()
    finally:
        reader.stop()
    assert not reader.is_alive()
