"""Rules and lists through the page, on a real broker: records as the commands write them, roles, and the browser."""

from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import expect

from schemas.records import DriftAlert
from schemas.rules import ListEntry, Rule, RulesFile
from stream_app.rules.ruleset_records import activate_ruleset
from tests.conftest import Kafka
from tests.helpers.services.browser_checks import CONTRAST, launched, signed_in
from tests.helpers.services.review_fixtures import ReviewWorld, running_reviews
from tests.helpers.services.worker_process import read_topic, wait_for

pytestmark = pytest.mark.kafka
NIGHT = Rule(
    id="night-large", version=1, when="hour < 5 and monto > 900", effect="review", reason="large, at night", owner="ops"
)


@pytest.fixture(scope="module")
def world(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    with running_reviews(kafka.bootstrap_servers, tmp_path_factory.mktemp("rules")) as running:
        content = RulesFile(rules=(NIGHT,))
        activate_ruleset(running.settings, running.dataset, content, reason="first rule", by="os:max@host")
        wait_for(lambda: running.ask("/v1/rules")[1]["number"] == 1, 30, lambda: str(running.ask("/v1/rules")))
        yield running


def entries(world: ReviewWorld) -> list[ListEntry]:
    records = read_topic(world.settings.bootstrap, world.settings.lists_topic, at_least=1)
    return [msgspec.json.decode(record.value, type=ListEntry) for record in records]


def rules(world: ReviewWorld) -> dict[str, str]:
    """Mode by id of the rules in force."""
    return {row["rule"]["id"]: row["rule"]["mode"] for row in world.ask("/v1/rules")[1]["rules"]}


def test_a_rule_goes_live_only_with_a_test_or_a_stated_reason_and_can_be_rolled_back(world: ReviewWorld) -> None:
    path = "/v1/rules/night-large/mode"
    status, answer = world.ask(path, "max", {"mode": "live", "reason": "attack"})
    assert (status, "live without a test" in answer["error"]) == (409, True)
    status, answer = world.ask(path, "max", {"mode": "live", "reason": "attack", "force": "it happens now"})
    assert (status, answer["text"]) == (200, "Ruleset 2 is in force.")
    wait_for(lambda: rules(world) == {"night-large": "live"}, 30)
    newest = world.ask("/v1/rules")[1]["history"][0]
    assert (newest["by"], newest["differences"]) == ("web:max", ["night-large: shadow becomes live"])
    assert newest["reason"] == "attack (without a test: it happens now)"
    assert world.ask("/v1/rules/rollback", "max", {"reason": "false alarm"})[0] == 200
    wait_for(lambda: rules(world) == {"night-large": "shadow"}, 30)
    assert world.ask("/v1/rules")[1]["history"][0]["restores"] == 1


def test_values_go_on_a_list_and_off_it_as_the_commands_would_write_them(world: ReviewWorld) -> None:
    path = "/v1/lists/blocked-cards"
    status, answer = world.ask(path, "ana", {"values": ["card-9", "card-8", "card-9"], "reason": "attack"})
    assert (status, answer["text"]) == (200, "2 values are on the list blocked-cards.")
    found = [(e.field, e.value, e.effect, e.by, e.removed) for e in entries(world)]
    assert found == [("ID_USER", "card-9", "block", "web:ana", False), ("ID_USER", "card-8", "block", "web:ana", False)]
    listed = world.ask("/v1/lists?list=blocked-cards&value=CARD-8")[1]
    assert [(e["value"], listed["matching"], listed["key"]) for e in listed["entries"]] == [("card-8", 1, "ID_USER")]
    assert world.ask(path, "ana", {"values": ["card-8"], "reason": "wrong card", "removed": True})[0] == 200
    wait_for(lambda: world.ask("/v1/lists")[1]["lists"] == [{"name": "blocked-cards", "entries": 1}], 30)
    status, answer = world.ask(path, "ana", {"values": ["x"], "field": "ciudadd", "reason": "why"})
    assert (status, "did you mean 'ciudad'" in answer["error"]) == (409, True)


def test_each_change_needs_its_role_and_a_reason(world: ReviewWorld) -> None:
    block = {"values": ["card-7"], "reason": "why"}
    for path, user, body, status in (
        ("/v1/lists/blocked-cards", "leo", block, 403),
        ("/v1/lists/vip", "ana", block | {"effect": "allow"}, 403),
        ("/v1/lists/blocked-cards", "ana", block | {"reason": ""}, 400),
        ("/v1/lists/blocked-cards", "ana", block | {"values": []}, 400),
        ("/v1/rules/night-large/mode", "ana", {"mode": "off", "reason": "why"}, 403),
        ("/v1/rules/nobody/mode", "max", {"mode": "off", "reason": "why"}, 404),
        ("/v1/rules/rollback", "ana", {"reason": "why"}, 403),
        ("/v1/rules/approve", "ana", {"number": 1, "reason": "why"}, 403),
        ("/v1/rules/approve", "max", {"number": 9, "reason": "why"}, 409),
    ):
        assert (path, world.ask(path, user, body)[0]) == (path, status)
    assert world.ask("/v1/lists?cards=1")[0] == 400
    assert world.ask("/v1/rules", "leo")[0] == 200


def test_in_the_browser_a_reviewer_blocks_the_card_of_a_case_and_the_cards_of_an_attack(world: ReviewWorld) -> None:
    world.decide("stolen", card="card-stolen", amount=77.0)
    alert = msgspec.convert(
        {
            "incident_id": "attack-1", "change": "opened", "kind": "attack", "severity": "critical",
            "model": world.settings.model_name, "model_version": 1, "features": ["score"],
            "summary": "few cards, high scores", "opened_at_ms": world.now_ms, "happened_at_ms": world.now_ms,
            "evidence": [], "examples": [], "cards": ["card-x", "card-y"],
        },
        DriftAlert,
    )  # fmt: skip
    world.producer.send(world.settings.drift_alerts_topic, msgspec.json.encode(alert), key=b"attack-1", partition=0)
    with launched() as browser, signed_in(browser, world, "ana", "#review/d-stolen") as page:
        expect(page.locator("#case-head")).to_contain_text("stolen")
        page.keyboard.press("c")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Put card-stolen on the list blocked-cards")
        expect(dialog.get_by_label("Reason")).to_have_value("review of stolen")
        dialog.get_by_label("Reason").press("Enter")
        expect(dialog).to_be_visible()
        dialog.get_by_label("For how long").select_option("7 days")
        dialog.get_by_role("button", name="Put on the list").click()
        expect(page.locator("#case-result")).to_have_text("1 value is on the list blocked-cards.")
        page.goto(world.url + "/#overview")
        page.get_by_role("button", name="Block these 2 cards").click()
        page.get_by_role("dialog").get_by_role("button", name="Put on the list").click()
        expect(page.locator("#incidents-result")).to_have_text("2 values are on the list blocked-cards.")
    written = {e.value: e for e in entries(world)}
    stolen, attacked = written["card-stolen"], written["card-y"]
    assert (stolen.reason, attacked.reason) == ("review of stolen", "incident attack-1")
    assert stolen.until_ms is not None
    assert attacked.until_ms is None


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_in_the_browser_rules_and_lists_are_shown_and_changed(world: ReviewWorld, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800}
    with launched() as browser, signed_in(browser, world, "max", "#rules", viewport=size, color_scheme=scheme) as page:
        expect(page.locator("#rules")).to_contain_text("hour < 5 and monto > 900")
        expect(page.locator("#rules-history")).to_contain_text("ruleset 1 activated")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        found = page.evaluate(CONTRAST)
        assert found["poor"] == []
        page.locator("#entry-form").get_by_label("Value").fill(f"card-{width}")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_role("dialog").get_by_label("Reason").fill("called the bank")
        page.get_by_role("dialog").get_by_role("button", name="Put on the list").click()
        expect(page.locator("#entries")).to_contain_text(f"card-{width}")
        page.get_by_role("button", name=f"Remove card-{width} from blocked-cards").click()
        page.get_by_role("dialog").get_by_label("Reason").fill("a mistake")
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.locator("#entries")).not_to_contain_text(f"card-{width}")
        mode = "Turn off" if width == 1280 else "To shadow"
        page.get_by_role("button", name=f"{mode}: night-large").click()
        page.get_by_role("dialog").get_by_label("Reason").fill("too many")
        page.get_by_role("dialog").get_by_role("button", name=mode).click()
        expect(page.locator("#rules tbody")).to_contain_text("off" if width == 1280 else "shadow")
        expect(page.locator("#rules-result")).to_contain_text("is in force")
