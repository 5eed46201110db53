"""The API of the review queue on a real server and broker: what it lists, what a case shows, and verdicts as labels."""

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from schemas.records import Label
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_inputs import label_inputs
from tests.conftest import Kafka
from tests.helpers.services.review_fixtures import MATCH, ReviewWorld, running_reviews
from tests.helpers.services.worker_process import read_topic, wait_for

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def world(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    with running_reviews(kafka.bootstrap_servers, tmp_path_factory.mktemp("reviews")) as running:
        running.decide("small", amount=12.5, score=0.9)
        running.decide("large", amount=9_000.0, score=0.6, matches=(MATCH,))
        running.decide("fine", "approve", amount=3.0, score=0.1)
        running.decide("stopped", "decline", amount=800.0, card="card-2", score=0.99)
        running.decide("asked", "challenge", amount=70.0, card="card-2", score=0.8)
        wait_for(lambda: running.ids(outcome="all", order="amount")[0] == "large", 30, lambda: str(running.reviews()))
        yield running


def labels(world: ReviewWorld, n: int) -> list[Label]:
    records = read_topic(world.settings.bootstrap, world.settings.labels_topic, at_least=n)
    return [msgspec.json.decode(record.value, type=Label) for record in records]


def test_the_queue_lists_reviews_and_other_outcomes_on_request_by_time_amount_and_score(world: ReviewWorld) -> None:
    assert world.ids() == ["large", "small"]
    assert world.ids(outcome="all") == ["asked", "stopped", "large", "small"]
    assert world.ids(outcome="all", order="amount") == ["large", "stopped", "asked", "small"]
    assert world.ids(outcome="all", order="score") == ["stopped", "small", "asked", "large"]
    assert world.ids(outcome="decline") == ["stopped"]
    assert world.ids(rule="night-abroad") == ["large"]
    assert world.ids(outcome="all", card="card-2") == ["asked", "stopped"]
    assert world.ids(reason="AT NIGHT") == ["large"]
    first = world.reviews(outcome="all", limit=3)
    assert (first["matching"], first["waiting"], first["cut"], first["unread"]) == (4, 2, 0, 0)
    assert world.ids(outcome="all", limit=3, after=first["next"]) == ["small"]


def test_a_wrong_parameter_is_refused_in_one_line_that_names_it(world: ReviewWorld) -> None:
    for query, words in {
        "order=oldest": "order is 'oldest'; use one of newest, amount, score",
        "limit=0": "limit is '0'; use a number from 1 to 200",
        "outcome=approve": "outcome is 'approve'; use one of review, challenge, decline, all",
        "after=x": "after is 'x'; use `next` of the page before",
        "state=done": "state is 'done'; use one of waiting, unsure",
        "cards=1": "a parameter is 'cards'",
    }.items():
        status, answer = world.ask(f"/v1/reviews?{query}")
        assert (status, words in answer["error"]) == (400, True), answer


def test_a_case_shows_the_payload_reasons_rules_the_cards_transactions_and_the_logged_values(
    world: ReviewWorld,
) -> None:
    status, found = world.ask("/v1/reviews/d-large")
    assert status == 200
    assert found["transaction"]["monto"] == "9000.0"
    assert found["transaction"]["establecimiento"] == "Tienda <b>"
    assert found["case"]["matches"][0]["name"] == "night-abroad"
    assert (found["case"]["decided_by"], found["case"]["model_outcome"]) == ("rule", "approve")
    history = [(one["transaction_id"], one["outcome"], one["amount"]) for one in found["history"]]
    assert history == [("fine", "approve", 3.0), ("small", "review", 12.5)]
    names = [feature.name for feature in world.dataset.profile_features]
    assert found["profile_values"] == {name: float(i) for i, name in enumerate(names[:-1])} | {names[-1]: None}
    assert found["missing"] == []


def test_a_case_whose_transaction_expired_is_shown_and_says_so(world: ReviewWorld) -> None:
    world.decide("gone", card="card-gone", logged=False, expired=True)
    wait_for(lambda: "gone" in world.ids(), 30)
    _, found = world.ask("/v1/reviews/d-gone")
    assert (found["transaction"], found["profile_values"]) == (None, {})
    assert found["missing"] == ["the transaction is not in its topic any more"]
    assert world.ids(order="amount")[-1] == "gone", "an unknown amount comes last"


def test_a_verdict_is_a_label_with_reviewer_time_and_entities_and_the_case_leaves_the_queue(
    world: ReviewWorld,
) -> None:
    world.decide("shown", amount=50.0, card="card-7")
    wait_for(lambda: "shown" in world.ids(), 30)
    status, answer = world.ask("/v1/reviews/d-shown/verdict", body={"verdict": "fraud"})
    assert (status, answer["verdict"], answer["by"]) == (200, "fraud", "web:ana")
    assert "shown" not in world.ids()
    (label,) = [label for label in labels(world, 1) if label.transaction_id == "shown"]
    assert (label.fraud, label.by, label.reported_at_ms) == (True, "web:ana", answer["at_ms"])
    assert label.entities == {"ID_USER": "card-7", "establecimiento": "Tienda <b>"}
    assert len(label_inputs(ProfilePlan.of(world.dataset), [label]).ids) == 1, "profiles of labels can use it"
    status, answer = world.ask("/v1/reviews/d-shown/verdict", "ben", {"verdict": "legitimate"})
    assert status == 409
    assert "web:ana judged this transaction as fraud" in answer["error"]
    status, answer = world.ask("/v1/reviews/d-shown/verdict", body={"verdict": "legitimate"})
    assert (status, answer["verdict"]) == (200, "legitimate"), "a reviewer may correct the own verdict"


def test_a_label_from_elsewhere_ends_the_case_and_a_verdict_after_it_is_refused(world: ReviewWorld) -> None:
    world.decide("reported")
    wait_for(lambda: "reported" in world.ids(), 30)
    label = Label(transaction_id="reported", fraud=True, reported_at_ms=world.now_ms)
    world.producer.send(world.settings.labels_topic, msgspec.json.encode(label), key=b"reported")
    wait_for(lambda: "reported" not in world.ids(), 30)
    status, answer = world.ask("/v1/reviews/d-reported/verdict", body={"verdict": "legitimate"})
    assert (status, "a label from elsewhere states" in answer["error"]) == (409, True)


def test_of_two_people_on_one_case_the_second_learns_who_was_first(world: ReviewWorld) -> None:
    world.decide("contested")
    wait_for(lambda: "contested" in world.ids(), 30)
    answers: dict[str, tuple[int, Any]] = {}
    begin = threading.Barrier(2)

    def judge(user: str, verdict: str) -> None:
        begin.wait()
        answers[user] = world.ask("/v1/reviews/d-contested/verdict", user, {"verdict": verdict})

    people = [threading.Thread(target=judge, args=pair) for pair in (("ana", "fraud"), ("ben", "legitimate"))]
    for person in people:
        person.start()
    for person in people:
        person.join()
    first, second = sorted(answers, key=lambda user: answers[user][0])
    assert [answers[user][0] for user in (first, second)] == [200, 409]
    assert f"web:{first}" in answers[second][1]["error"]
    assert [label.by for label in labels(world, 1) if label.transaction_id == "contested"] == [f"web:{first}"]


def test_a_claim_keeps_others_off_until_its_holder_opens_another_case(world: ReviewWorld) -> None:
    world.decide("held")
    wait_for(lambda: "held" in world.ids(), 30)
    assert world.ask("/v1/reviews/d-held/claim", "ana", {})[0] == 200
    (case,) = [case for case in world.reviews()["cases"] if case["transaction_id"] == "held"]
    assert case["claim"]["by"] == "web:ana"
    for path, body in (("claim", {}), ("verdict", {"verdict": "fraud"})):
        status, answer = world.ask(f"/v1/reviews/d-held/{path}", "ben", body)
        assert (status, "web:ana is working on this case" in answer["error"]) == (409, True)
    assert world.ask("/v1/reviews/d-small/claim", "ana", {})[0] == 200
    assert world.ask("/v1/reviews/d-held/verdict", "ben", {"verdict": "not-sure"})[0] == 200
    assert "held" not in world.ids()
    assert world.ids(state="unsure") == ["held"]
    assert world.ask("/v1/reviews/d-held/verdict", "ana", {"verdict": "legitimate"})[0] == 200
    assert [label.fraud for label in labels(world, 1) if label.transaction_id == "held"] == [None, False]


def test_reading_needs_no_role_of_reviewers_and_changing_needs_role_origin_and_a_valid_body(
    world: ReviewWorld,
) -> None:
    path = "/v1/reviews/d-small/verdict"
    assert world.ask("/v1/reviews/d-small", "leo")[0] == 200
    assert world.ask(path, "leo", {"verdict": "fraud"})[0] == 403
    assert world.ask("/v1/reviews/d-small/claim", "leo", {})[0] == 403
    assert world.ask(path, "ana", {"verdict": "fraud"}, Origin="https://evil.example")[0] == 403
    assert world.ask(path, "ana", b"verdict=fraud", **{"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    for body in ({"verdict": "yes"}, {}, {"verdict": "fraud", "by": "web:ben"}, b"{", b'"\xff"', [1]):
        status, answer = world.ask(path, "ana", body)
        assert (status, "no valid message" in answer["error"]) == (400, True)
    assert world.ask("/v1/reviews/d-nobody/verdict", "ana", {"verdict": "fraud"})[0] == 404
    assert "small" in world.ids()
    assert world.ask("/me", "ana")[1] == {"user": "ana", "may_review": True, "may_approve": False}
