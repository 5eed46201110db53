"""The API of the review queue: `/v1/reviews`."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar, cast, get_args

import msgspec
from aiohttp import web
from kafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError
from schemas.records import Outcome
from schemas.security.actor import web_actor
from schemas.security.sanitizer import printable, without_credentials
from stream_app.reviews.case_claims import CaseClaims, Holder
from stream_app.reviews.case_reader import CaseReader, unreadable
from stream_app.reviews.review_follower import ReviewFollower
from stream_app.reviews.review_messages import (
    FRAUD,
    CaseClaim,
    CaseDetail,
    CasePage,
    CaseVerdict,
    CaseView,
    VerdictForm,
)
from stream_app.reviews.review_queue import MAX_TEXT_LENGTH, ORDERS, CaseFilter, Order, ReviewCase
from stream_app.web.http_server import excerpt, json_response, read_json, refusal
from stream_app.web.web_auth import USER, Authenticator

log = logging.getLogger("tamiz.reviews")
DEFAULT_LIMIT, MAX_LIMIT = 50, 200  # cases of a page
FLAGGED: tuple[Outcome, ...] = tuple(outcome for outcome in get_args(Outcome) if outcome != "approve")
PARAMETERS = ("state", "outcome", "rule", "card", "reason", "order", "limit", "after")

T = TypeVar("T")


class ReviewPages:
    """Answers requests on the event loop that serves them."""

    def __init__(self, settings: Settings, auth: Authenticator, registry: CollectorRegistry) -> None:
        dataset = load_dataset(settings.dataset)
        self._auth = auth
        self._has_amount = dataset.amount is not None
        self._follower = ReviewFollower(settings, dataset)
        self._reader = CaseReader(settings, dataset, self._follower)
        self._claims = CaseClaims()
        registry.register(_Counts(self._follower))

    def routes(self) -> list[web.RouteDef]:
        """The routes of the API."""
        case = r"/v1/reviews/{id:[^/]{1,1000}}"
        return [
            web.get("/v1/reviews", self._list),
            web.get(case, self._detail),
            web.post(f"{case}/claim", self._claim),
            web.post(f"{case}/verdict", self._verdict),
        ]

    def start(self) -> None:
        """Start to read topics."""
        self._follower.start()

    def stop(self) -> None:
        """Stop reading; blocks."""
        self._follower.stop()
        self._reader.close()

    @property
    def is_alive(self) -> bool:
        """Whether the reader runs."""
        return self._follower.is_alive()

    def waiting(self) -> int:
        """Number of transactions sent to review without a label."""
        with self._follower.lock:
            return self._follower.queue.waiting

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        for name in query:
            _choice("a parameter", name, PARAMETERS)
        order = _choice("order", query.get("order", "newest"), ORDERS)
        if order == "amount" and not self._has_amount:
            raise refusal(400, "order is amount, but the data set declares no amount; declare it, or order by score")
        limit = query.get("limit", str(DEFAULT_LIMIT))
        if not (limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= MAX_LIMIT):
            raise refusal(400, f"limit is {excerpt(limit)!r}; use a number from 1 to {MAX_LIMIT}")
        outcome = query.get("outcome", "review")
        outcomes = FLAGGED if outcome == "all" else (_choice("outcome", outcome, (*FLAGGED, "all")),)
        wanted = CaseFilter(
            outcomes=frozenset(cast(tuple[Outcome, ...], outcomes)),
            unsure=_choice("state", query.get("state", "waiting"), ("waiting", "unsure")) == "unsure",
            card=query.get("card", ""),
            rule=query.get("rule", ""),
            reason=query.get("reason", ""),
        )
        page = await asyncio.to_thread(self._page, wanted, cast(Order, order), int(limit), query.get("after", ""))
        return json_response(page)

    def _page(self, wanted: CaseFilter, order: Order, limit: int, after: str) -> CasePage:
        follower = self._follower
        with follower.lock:
            try:
                listed = follower.queue.listed(wanted, order, limit, after)
            except ValueError:
                raise refusal(400, f"after is {excerpt(after)!r}; use `next` of the page before") from None
            return CasePage(
                cases=tuple(self._view(case) for case in listed.cases),
                matching=listed.matching,
                next=listed.next,
                waiting=follower.queue.waiting,
                unsure=follower.queue.unsure,
                cut=follower.queue.cut,
                unread=follower.unread,
                since_ms=follower.since_ms,
                error=follower.error,
            )

    async def _detail(self, request: web.Request) -> web.Response:
        return json_response(await asyncio.to_thread(self._read_detail, self._case(request)))

    def _read_detail(self, case: ReviewCase) -> CaseDetail:
        missing: list[str] = []

        def read(what: str, call: Callable[[], T]) -> T | None:
            try:
                return call()
            except (BrokerError, KafkaError) as error:
                missing.append(unreadable(what, error))
                return None

        found = read("the transaction", lambda: self._reader.transaction(case.place))
        if found is None and not missing:
            missing.append("the transaction is not in its topic any more")
        history = read("the card's transactions", lambda: self._reader.history(case))
        values = read("the profile values", lambda: self._reader.profile_values(case))
        with self._follower.lock:
            return CaseDetail(
                case=self._view(case),
                transaction=None if found is None else found.fields,
                history=tuple(history or ()),
                history_since_ms=self._follower.since_ms,
                profile_values=values or {},
                missing=tuple(missing),
            )

    async def _claim(self, request: web.Request) -> web.Response:
        user = self._auth.require(request[USER], "review")
        case = self._case(request)
        self._refuse_judged(case, web_actor(user.name))
        return json_response(_claim_view(self._claimed(case, web_actor(user.name))))

    async def _verdict(self, request: web.Request) -> web.Response:
        by = web_actor(self._auth.require(request[USER], "review").name)
        opinion = (await read_json(request, VerdictForm)).verdict
        case = self._case(request)
        # From here to the claim nothing is awaited: of two people, the second one finds the claim of the first.
        self._refuse_judged(case, by)
        self._claimed(case, by)
        try:
            label = await asyncio.to_thread(self._reader.write_label, case, FRAUD[opinion], by)
        except (BrokerError, KafkaError) as error:
            log.warning("a verdict was not acknowledged: %s", without_credentials(str(error) or repr(error)))
            raise refusal(503, "the broker did not confirm the verdict; give it again") from None
        with self._follower.lock:
            self._follower.queue.add_label(label)
            self._claims.end(case.decision.decision_id)
        log.info("transaction %s: %s, by %s", printable(label.transaction_id, MAX_TEXT_LENGTH), opinion, by)
        return json_response(CaseVerdict(verdict=opinion, by=by, at_ms=label.reported_at_ms))

    def _case(self, request: web.Request) -> ReviewCase:
        with self._follower.lock:
            case = self._follower.queue.find(request.match_info["id"])
        if case is None:
            raise refusal(404, "the queue holds no such case; it may have a label, or be too old")
        return case

    def _refuse_judged(self, case: ReviewCase, by: str) -> None:
        """Refuse a verdict after that of another. A reviewer may correct the own one, and settle an unsure case."""
        verdict = case.verdict
        if verdict is not None and verdict.verdict != "not-sure" and verdict.by != by:
            who = f"{verdict.by} judged" if verdict.by is not None else "a label from elsewhere states"
            when = datetime.fromtimestamp(verdict.at_ms // 1000, UTC)
            raise refusal(409, f"{who} this transaction as {verdict.verdict}, {when:%Y-%m-%d %H:%M:%S} UTC")

    def _claimed(self, case: ReviewCase, by: str) -> Holder:
        with self._follower.lock:
            holder = self._claims.claim(case.decision.decision_id, by)
        if holder.user != by:
            raise refusal(409, f"{holder.user} is working on this case; choose another, or wait until the claim ends")
        return holder

    def _view(self, case: ReviewCase) -> CaseView:
        decision = case.decision
        holder = self._claims.holder(decision.decision_id)
        return CaseView(
            id=decision.decision_id,
            transaction_id=printable(decision.transaction_id, MAX_TEXT_LENGTH),
            card=case.card,
            outcome=decision.outcome,
            model_outcome=decision.model_outcome,
            decided_by=decision.decided_by,
            score=decision.score,
            threshold=decision.threshold,
            model_version=decision.model_version,
            event_time_ms=decision.event_time_ms,
            decided_at_ms=case.decided_at_ms,
            amount=case.amount,
            matches=tuple(
                msgspec.structs.replace(
                    match, name=printable(match.name, MAX_TEXT_LENGTH), reason=printable(match.reason, MAX_TEXT_LENGTH)
                )
                for match in decision.matches
            ),
            reasons=tuple(
                msgspec.structs.replace(
                    reason,
                    feature=printable(reason.feature, MAX_TEXT_LENGTH),
                    value=printable(reason.value, MAX_TEXT_LENGTH) if isinstance(reason.value, str) else reason.value,
                    text=printable(reason.text, MAX_TEXT_LENGTH),
                )
                for reason in decision.reasons
            ),
            verdict=case.verdict,
            claim=None if holder is None else _claim_view(holder),
        )


class _Counts:
    """Metrics of the queue."""

    def __init__(self, follower: ReviewFollower) -> None:
        self._follower = follower

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        follower = self._follower
        with follower.lock:
            cases = {"waiting": follower.queue.waiting, "unsure": follower.queue.unsure}
            dropped = {"cut": follower.queue.cut, "unread": follower.unread}
        gauge = GaugeMetricFamily("tamiz_review_cases", "Cases of the review queue", labels=["state"])
        for state, n in cases.items():
            gauge.add_metric([state], n)
        counter = CounterMetricFamily(
            "tamiz_review_dropped", "Cases cut from the queue, and decisions that it did not read", labels=["what"]
        )
        for what, n in dropped.items():
            counter.add_metric([what], n)
        yield from (gauge, counter)


def _claim_view(holder: Holder) -> CaseClaim:
    return CaseClaim(by=holder.user, until_ms=int(holder.until_s * 1000))


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise refusal(400, f"{name} is {excerpt(value)!r}; use one of {', '.join(choices)}")
    return value
