"""The review queue in a real browser: the keyboard flow, two people, and what each role, size and scheme sees."""

from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, expect

from schemas.records import Label
from tests.conftest import Kafka
from tests.helpers.services.browser_checks import CONTRAST, launched, reach_by_tab, signed_in
from tests.helpers.services.review_fixtures import MATCH, ReviewWorld, running_reviews
from tests.helpers.services.worker_process import read_topic, wait_for

pytestmark = pytest.mark.kafka
SHADOW = msgspec.structs.replace(MATCH, name="large-at-night", mode="shadow", effect="decline")


@pytest.fixture(scope="module")
def world(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    with running_reviews(kafka.bootstrap_servers, tmp_path_factory.mktemp("page")) as running:
        running.decide("past", "approve", amount=4.5, score=0.01)
        for n in range(1, 7):
            running.decide(f"tx-{n}", amount=100.0 * n, score=1 - n / 10, card=f"card-{n % 2}")
        running.decide("tx-rule", amount=1_250.5, matches=(MATCH, SHADOW), text="<img src=x onerror=alert(1)>")
        running.decide("tx-stop", "decline", amount=8_000.0)
        wait_for(lambda: running.ids(order="amount")[0] == "tx-rule", 30, lambda: str(running.reviews()))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


def label_of(world: ReviewWorld, name: str) -> Label:
    """The last label of a transaction."""
    records = read_topic(world.settings.bootstrap, world.settings.labels_topic, at_least=1)
    labels = [msgspec.json.decode(record.value, type=Label) for record in records]
    return [label for label in labels if label.transaction_id == name][-1]


def test_a_reviewer_works_through_the_queue_by_keyboard_alone(browser: Browser, world: ReviewWorld) -> None:
    with signed_in(browser, world, "ana") as page:
        head, result = page.locator("#case-head"), page.locator("#case-result")
        expect(page.locator("#queue button").first).to_contain_text("tx-rule")
        page.keyboard.press("j")
        expect(head).to_have_text("1,250.50 · tx-rule")
        page.keyboard.press("j")
        expect(head).to_have_text("600.00 · tx-6")
        expect(page.locator("#case")).to_contain_text("establecimiento_fraud_rate_1d")
        page.keyboard.press("f")
        expect(result).to_contain_text("tx-6: fraud. b goes back to it.")
        expect(head).to_contain_text("tx-5")
        assert (label_of(world, "tx-6").fraud, label_of(world, "tx-6").by) == (True, "web:ana")
        page.keyboard.press("b")
        expect(page.locator("#case")).to_contain_text("now: fraud, by web:ana")
        page.keyboard.press("l")
        expect(result).to_contain_text("tx-6: legitimate")
        assert label_of(world, "tx-6").fraud is False
        page.keyboard.press("/")
        page.keyboard.type("fjlu of no reason")
        expect(page.locator("#queue-notice")).to_contain_text("No case matches")
        expect(page.get_by_label("Reason")).to_have_value("fjlu of no reason")
        page.get_by_label("Reason").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("verdict: not sure")
        page.keyboard.press("f")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert "tx-5" in world.ids(), "a key in the help or in a field is no verdict"


def test_two_people_on_one_case_learn_of_each_other(browser: Browser, world: ReviewWorld) -> None:
    with signed_in(browser, world, "ana", "#review/d-tx-4") as ana, signed_in(browser, world, "ben") as ben:
        expect(ana.locator("#case-head")).to_contain_text("tx-4")
        row = ben.locator("#queue button").filter(has_text="tx-4")
        expect(row).to_contain_text("web:ana is on it")
        row.click()
        expect(ben.locator("#case-result")).to_contain_text("web:ana is working on this case")
        ana.get_by_role("button", name="Legitimate").click()
        expect(ana.locator("#case-result")).to_contain_text("tx-4: legitimate")
        ben.get_by_role("button", name="Fraud").click()
        expect(ben.locator("#case-result")).to_contain_text("web:ana judged this transaction as legitimate")
        expect(ben.locator("#queue")).not_to_contain_text("tx-4")
    assert label_of(world, "tx-4").by == "web:ana"


def test_a_case_shows_rules_first_where_a_rule_decided_and_texts_are_text(browser: Browser, world: ReviewWorld) -> None:
    with signed_in(browser, world, "leo", "#review/d-tx-rule") as page:
        case = page.locator("#case")
        expect(case).to_contain_text("night-abroad v3: review, decided. at night, abroad")
        expect(case).to_contain_text("large-at-night v3: decline, in shadow (without effect)")
        expect(case).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.locator("#case img").count() == 0
        expect(case.get_by_role("row").filter(has_text="past")).to_contain_text("4.50")
        expect(case).to_contain_text("this needs the role review")
        assert page.locator("#case button").count() == 0
        page.get_by_label("Show").select_option("decline")
        expect(page.locator("#queue")).to_contain_text("tx-stop")
        page.get_by_label("Show").select_option("review")
        page.get_by_label("Order").select_option("score")
        expect(page.locator("#queue button").first).to_contain_text("tx-1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_queue_and_case_fit_and_every_text_has_contrast(
    browser: Browser, world: ReviewWorld, scheme: str
) -> None:
    size = {"width": 360, "height": 740}
    with signed_in(browser, world, "ben", viewport=size, color_scheme=scheme) as page:
        for part in ("queue", "case"):
            if part == "case":
                page.locator("#queue button").filter(has_text="tx-rule").click()
                expect(page.locator("#case")).to_contain_text("Profile values at the decision")
            assert page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]
            found = page.evaluate(CONTRAST)
            assert found["looked"] > 20
            assert found["poor"] == []
        page.get_by_role("button", name="Back to the queue").click()
        expect(page.locator("#queue")).to_be_visible()


def test_every_control_of_the_queue_is_reached_by_tab_and_has_a_name(browser: Browser, world: ReviewWorld) -> None:
    with signed_in(browser, world, "ben", "#review/d-tx-1") as page:
        expect(page.locator("#case")).to_contain_text("Profile values at the decision")
        wanted, missed = reach_by_tab(page)
        assert wanted > 12
        assert missed == []
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select")]
                .filter((n) => n.checkVisibility() && !(n.labels?.length || n.textContent.trim() || n.ariaLabel))
                .map((n) => n.outerHTML)"""
        )
        assert unnamed == []
