"""The dashboard's web server: encodes one state a second and sends it to every connected browser."""

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from monitoring.counting.reference_profile import SCORE
from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.security.actor import web_actor
from schemas.security.hosts import page_names
from schemas.security.sanitizer import printable
from schemas.security.web_users import User
from stream_app.dashboard.messages import Me, State
from stream_app.dashboard.registry_poller import Registry, RegistryPoller, VersionsSeen
from stream_app.dashboard.rule_pages import RulePages
from stream_app.dashboard.sessions import COOKIE, LIFETIME_S, Sessions, is_own_origin
from stream_app.dashboard.topic_follower import TopicFollower
from stream_app.lifecycle.log_rate_limit import export_suppressed_records
from stream_app.reviews.review_pages import ReviewPages
from stream_app.web.http_server import (
    Handler,
    application,
    excerpt,
    is_own_host,
    json_response,
    read_form,
    refusal,
    runner,
)
from stream_app.web.web_auth import ANONYMOUS, USER, Authenticator, authentication_failures

log = logging.getLogger("tamiz.dashboard")
STATIC = Path(__file__).parent / "static"
STATIC_FILES = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.is_file()}
STATE_INTERVAL_S = 1.0
WILDCARDS = frozenset({"0.0.0.0", "::"})  # listen addresses that are no host names
PUBLIC_PATHS = frozenset({"/livez", "/signin", "/signout"})  # in addition to /static/, which holds nothing confidential
MAX_REASON_LENGTH = 500  # characters; also the limit of the page's input field


class Dashboard:
    """Serves the page on the event loop that starts it."""

    def __init__(self, settings: Settings, registry: Registry, auth: Authenticator) -> None:
        self._settings = settings
        self._registry = registry
        self._reader = TopicFollower(settings)
        self._auth = auth
        self._metric_registry = CollectorRegistry()
        auth.on_failure = authentication_failures(self._metric_registry).inc
        export_suppressed_records(self._metric_registry)
        self._sessions = Sessions(auth)
        self._names = page_names(settings.web_hosts) | {settings.web_host.lower()} - WILDCARDS
        self._reviews = ReviewPages(settings, auth, self._metric_registry)
        self._poller = RegistryPoller(registry, settings.registry_poll_seconds)
        self._encoded_state = b""
        self._new_state = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> int:
        """Start reading topics and listening. port: 0 picks a free one. Returns the port."""
        app = application(self._guard, lambda request: self._auth.client(request).secure)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/livez", self._livez),
                web.get("/metrics", self._metrics),
                web.get("/signin", self._sign_in_page),
                web.post("/signin", self._sign_in),
                web.post("/signout", self._sign_out),
                web.get("/me", self._me),
                web.get("/state", self._state),
                web.get("/events", self._events),
                web.get("/drift", self._drift),
                web.get("/feature", self._feature),
                web.get(r"/models/{version:\d{1,9}}/report.pdf", self._report),
                web.post(r"/models/{version:\d{1,9}}/{action:approve|reject}", self._approve_or_reject),
                web.get("/static/{name:.+}", self._static),
            ]
        )
        app.add_routes(self._reviews.routes())
        app.add_routes(RulePages(self._settings, self._auth, self._reader.rules, self._reader.lock).routes())
        self._reader.start()
        self._reviews.start()
        self._runner = runner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._tasks = [
            asyncio.create_task(task())
            for task in (self._publish_states, lambda: self._poller.run(self._versions_seen))
        ]
        address: Any = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Stop listening and reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.to_thread(self._reader.stop)
        await asyncio.to_thread(self._reviews.stop)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/livez" or (request.path == "/metrics" and self._auth.is_enabled):
            return await handler(request)  # probes and Prometheus use the IP address; browsers send no bearer token
        if not is_own_host(request, self._names):
            name = excerpt(request.headers.get("Host", ""))
            raise refusal(403, f"host name {name!r} is not allowed; add it to web_hosts")
        secure = self._auth.client(request).secure
        origin = request.headers.get("Origin")
        if request.method not in ("GET", "HEAD") and not is_own_origin(origin, request.headers["Host"], secure=secure):
            raise refusal(403, "cross-site request; the Origin header must name this page")
        if request.path in PUBLIC_PATHS or request.path.startswith("/static/"):
            return await handler(request)
        user = self._user(request)
        if user is None and request.path == "/":
            raise web.HTTPSeeOther("/signin")
        request[USER] = self._auth.require(user, "read")
        return await handler(request)

    def _user(self, request: web.Request) -> User | None:
        return self._auth.bearer(request) or self._sessions.user(_session(request))

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _metrics(self, request: web.Request) -> web.Response:
        self._auth.require(self._auth.bearer(request), "scrape")
        return web.Response(body=generate_latest(self._metric_registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _static(self, request: web.Request) -> web.StreamResponse:
        # Looked up in a table, so that no client-supplied path is opened.
        if (file := STATIC_FILES.get(request.match_info["name"])) is None:
            raise refusal(404, "no such file")
        return web.FileResponse(file)

    async def _livez(self, _: web.Request) -> web.Response:
        alive = self._reader.is_alive() and self._reviews.is_alive
        return web.json_response({"alive": alive}, status=200 if alive else 503)

    async def _sign_in_page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "signin.html")

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        user = self._auth.by_token((await read_form(request)).get("token", ""))
        if user is None:
            failure = self._auth.failure(request)
            raise web.HTTPSeeOther("/signin?wrong") if failure.status == 401 else failure
        client = self._auth.client(request)
        if not user.may("read"):
            log.warning("sign-in of %s from %s refused: no role read", user.name, client.address)
            raise web.HTTPSeeOther("/signin?role")
        session = self._sessions.sign_in(user)
        log.info("%s signed in from %s", user.name, client.address)
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(
            COOKIE, session, max_age=LIFETIME_S, httponly=True, samesite="Strict", secure=client.secure, path="/"
        )
        raise answer

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._sessions.sign_out(_session(request))
        answer = web.HTTPSeeOther("/signin")
        answer.del_cookie(COOKIE, path="/")
        raise answer

    async def _me(self, request: web.Request) -> web.Response:
        user = request[USER]
        return json_response(
            Me(
                user=user.name if self._auth.is_enabled else None,
                may_review=user.may("review"),
                may_approve=user.may("approve"),
            )
        )

    async def _state(self, _: web.Request) -> web.Response:
        return web.Response(body=self._encoded_state or self._encode_state(), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events. A slow client skips states: only the latest one is sent."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await answer.write(b"retry: 1000\n\n")
            while self._may_still_read(request):
                await answer.write(b"data: " + (self._encoded_state or self._encode_state()) + b"\n\n")
                async with self._new_state:
                    await self._new_state.wait()
        return answer

    async def _drift(self, request: web.Request) -> web.Response:
        try:
            with self._reader.lock:
                found = self._reader.heatmap.map(request.query.get("window", ""), self._poller.references)
        except KeyError:
            raise refusal(404, "no such window") from None
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _feature(self, request: web.Request) -> web.Response:
        name, window = request.query.get("name", ""), request.query.get("window", "")
        try:
            found = await asyncio.to_thread(self._encode_feature, name, window)
        except KeyError:
            raise refusal(404, "no such window") from None
        if found is None:
            raise refusal(404, "no counts of this feature yet")
        return web.Response(body=found, content_type="application/json")

    def _encode_feature(self, name: str, window: str) -> bytes | None:
        with self._reader.lock:
            found = self._reader.heatmap.feature(name, window, self._poller.references)
        return None if found is None else msgspec.json.encode(found)

    async def _report(self, request: web.Request) -> web.Response:
        version = int(request.match_info["version"])
        try:
            pdf = await asyncio.to_thread(self._registry.report, version)
        except ModelUnavailableError:
            remedy = f"`tamiz report FILE --version {version}` writes one"
            raise refusal(404, f"the run of version {version} has no report; {remedy}") from None
        return web.Response(body=pdf, content_type="application/pdf")

    async def _approve_or_reject(self, request: web.Request) -> web.Response:
        user = self._auth.require(request[USER], "approve")
        version, action = int(request.match_info["version"]), request.match_info["action"]
        reason = printable(" ".join((await read_form(request)).get("reason", "").split()))
        if not reason:
            raise refusal(400, "reason is empty; give one, it is recorded in the history")
        if len(reason) > MAX_REASON_LENGTH:
            raise refusal(400, f"reason has {len(reason):,} characters; at most {MAX_REASON_LENGTH} are allowed")
        apply = self._registry.approve if action == "approve" else self._registry.reject
        try:
            reply = await asyncio.to_thread(apply, version, reason, web_actor(user.name))
        except ModelUnavailableError as error:
            raise refusal(409, str(error)) from None
        finally:
            self._poller.wake.set()
        log.info("version %d %s by %s: %s", version, reply.change, reply.by, reason)
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")

    def _may_still_read(self, request: web.Request) -> bool:
        # The session may have ended since the request was accepted, or the user may have been removed.
        user = request[USER]
        if user is ANONYMOUS:
            return True
        return self._auth.current(user) and (
            "Authorization" in request.headers or self._sessions.user(_session(request)) is not None
        )

    async def _publish_states(self) -> None:
        while True:
            self._encoded_state = self._encode_state()
            async with self._new_state:
                self._new_state.notify_all()
            await asyncio.sleep(STATE_INTERVAL_S)

    def _encode_state(self) -> bytes:
        now_ms = int(time.time() * 1000)
        with self._reader.lock:
            live = self._reader.live_state
            seconds = live.seconds(now_ms)
            reference = self._poller.references.get(live.version or 0)
            bins = None
            if reference is not None and SCORE in reference.bins.names:
                bins = reference.bins.features[reference.bins.names.index(SCORE)]
            state = State(
                now_ms=now_ms,
                model=self._settings.model_name,
                reading_error=self._reader.error,
                skipped_records=live.skipped_records,
                unread_decisions=live.unread_decisions,
                seconds=seconds,
                outcomes=dict(live.outcomes()),
                dead_letters=dict(live.codes()),
                versions=dict(live.versions()),
                score=live.scores(bins) if bins is not None else None,
                recent=live.recent,
                incidents=live.incidents,
                events=live.events,
                pending_approvals=self._poller.pending_approvals,
                registry_error=self._poller.error,
                registry_inconsistency=self._poller.registry_inconsistency,
                reviews_waiting=self._reviews.waiting(),
                evaluations=self._reader.heatmap.evaluations + len(self._poller.references),
            )
        return msgspec.json.encode(state)

    def _versions_seen(self) -> VersionsSeen:
        with self._reader.lock:
            live = self._reader.live_state
            versions = live.version, self._reader.heatmap.version
            return VersionsSeen(frozenset(v for v in versions if v is not None), live.events[:1])


def _session(request: web.Request) -> str:
    return request.cookies.get(COOKIE, "")
