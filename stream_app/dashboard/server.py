"""The page's web server: one state a second, coded once and sent to everybody who looks."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from monitoring.profile import SCORE
from schemas.errors import ModelUnavailable
from schemas.settings import Settings
from stream_app.dashboard.entrance import COOKIE, LIFETIME_S, Entrance, own_origin
from stream_app.dashboard.known import Heard, Known, Registry
from stream_app.dashboard.reader import Reader
from stream_app.dashboard.state import State

log = logging.getLogger("tamiz.dashboard")
STATIC = Path(__file__).parent / "static"
EVERY_S = 1.0
OPEN = frozenset({"/livez", "/signin"})  # besides /static/, which holds nothing of anybody's
GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # none at all would also take the Origin from our own forms
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dashboard:
    """Serves the page on the loop it is started on."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._reader = Reader(settings)
        self._entrance = Entrance(settings.web_token)
        self._known = Known(registry, settings.registry_poll_seconds)
        self._coded = b""
        self._fresh = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> int:
        """Read and listen; returns the port, which is a free one when 0 was asked for."""
        app = web.Application(middlewares=[self._guard], client_max_size=16 * 1024)
        app.on_response_prepare.append(_set_guards)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/livez", self._livez),
                web.get("/signin", self._sign_in_page),
                web.post("/signin", self._sign_in),
                web.post("/signout", self._sign_out),
                web.get("/state", self._state),
                web.get("/events", self._events),
                web.get("/drift", self._drift),
                web.get("/feature", self._feature),
                web.get(r"/models/{version:\d{1,9}}/report.pdf", self._report),
                web.post(r"/models/{version:\d{1,9}}/{move:approve|reject}", self._move),
                web.static("/static", STATIC),
            ]
        )
        self._reader.start()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._tasks = [asyncio.create_task(task()) for task in (self._tell, lambda: self._known.keep(self._heard))]
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

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._entrance.knows_host(request.host):
            return _refused(403, f"this page does not go by the name {request.host}")
        if request.method == "POST" and not own_origin(request.headers.get("Origin"), request.host):
            return _refused(403, "sent by another site; the Origin header must name this page")
        if request.path in OPEN or request.path.startswith("/static/") or self._admits(request):
            return await handler(request)
        if request.path == "/":
            raise web.HTTPSeeOther("/signin")
        return _refused(401, "sign in, or send `Authorization: Bearer TOKEN`")

    def _admits(self, request: web.Request) -> bool:
        return self._entrance.admits(request.headers.get("Authorization", ""), request.cookies.get(COOKIE, ""))

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _livez(self, _: web.Request) -> web.Response:
        alive = self._reader.is_alive()
        return web.json_response({"alive": alive}, status=200 if alive else 503)

    async def _sign_in_page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "signin.html")

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        session = self._entrance.sign_in(str((await request.post()).get("token", "")))
        if session is None:
            raise web.HTTPSeeOther("/signin?wrong")
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(
            COOKIE, session, max_age=LIFETIME_S, httponly=True, samesite="Strict", secure=request.secure, path="/"
        )
        raise answer

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._entrance.sign_out(request.cookies.get(COOKIE, ""))
        answer = web.HTTPSeeOther("/signin")
        answer.del_cookie(COOKIE, path="/")
        raise answer

    async def _state(self, _: web.Request) -> web.Response:
        return web.Response(body=self._coded or self._code(), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events. Whoever reads slowly skips states: there is always only the latest."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await answer.write(b"retry: 1000\n\n")
            while self._admits(request):
                await answer.write(b"data: " + (self._coded or self._code()) + b"\n\n")
                async with self._fresh:
                    await self._fresh.wait()
        return answer

    async def _drift(self, request: web.Request) -> web.Response:
        try:
            with self._reader.lock:
                found = self._reader.heat.map(request.query.get("window", ""), self._known.references)
        except KeyError:
            return _refused(404, "there is no such window")
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _feature(self, request: web.Request) -> web.Response:
        asked = request.query.get("name", ""), request.query.get("window", "")
        try:
            found = await asyncio.to_thread(self._feature_now, *asked)
        except KeyError:
            return _refused(404, "there is no such window")
        if found is None:
            return _refused(404, "nothing is known of this feature yet")
        return web.Response(body=found, content_type="application/json")

    def _feature_now(self, name: str, window: str) -> bytes | None:
        with self._reader.lock:
            found = self._reader.heat.feature(name, window, self._known.references)
        return None if found is None else msgspec.json.encode(found)

    async def _report(self, request: web.Request) -> web.Response:
        version = int(request.match_info["version"])
        try:
            pdf = await asyncio.to_thread(self._registry.report, version)
        except ModelUnavailable:
            remedy = f"`tamiz report FILE --version {version}` makes one"
            return _refused(404, f"the run of version {version} holds no report; {remedy}")
        return web.Response(body=pdf, content_type="application/pdf")

    async def _move(self, request: web.Request) -> web.Response:
        version, move = int(request.match_info["version"]), request.match_info["move"]
        reason = str((await request.post()).get("reason", "")).strip()
        if not reason:
            return _refused(400, "say why; it is kept for good")
        act = self._registry.approve if move == "approve" else self._registry.reject
        try:
            verdict = await asyncio.to_thread(act, version, reason)
        except ModelUnavailable as error:
            return _refused(409, str(error))
        finally:
            self._known.look.set()
        log.info("version %d %s by %s: %s", version, verdict.change, verdict.by, reason)
        return web.Response(body=msgspec.json.encode(verdict), content_type="application/json")

    async def _tell(self) -> None:
        while True:
            self._coded = self._code()
            async with self._fresh:
                self._fresh.notify_all()
            await asyncio.sleep(EVERY_S)

    def _code(self) -> bytes:
        now_ms = int(time.time() * 1000)
        with self._reader.lock:
            feed = self._reader.feed
            seconds = feed.seconds(now_ms)
            reference = self._known.references.get(feed.version or 0)
            bins = None
            if reference is not None and SCORE in reference.bins.names:
                bins = reference.bins.features[reference.bins.names.index(SCORE)]
            state = State(
                now_ms=now_ms,
                model=self._settings.model,
                guarded=self._settings.web_token is not None,
                away=self._reader.away,
                passed_over=feed.passed_over,
                unread=feed.unread,
                seconds=seconds,
                outcomes=dict(feed.outcomes()),
                dead_letters=dict(feed.codes()),
                versions=dict(feed.versions()),
                score=feed.scores(bins) if bins is not None else None,
                recent=feed.recent,
                incidents=feed.incidents,
                events=feed.events,
                waiting=self._known.waiting,
                registry=self._known.away,
                evaluations=self._reader.heat.evaluations + len(self._known.references),
            )
        return msgspec.json.encode(state)

    def _heard(self) -> Heard:
        with self._reader.lock:
            feed = self._reader.feed
            versions = feed.version, self._reader.heat.version
            return Heard(frozenset(v for v in versions if v is not None), feed.events[:1])


async def _set_guards(_: web.Request, answer: web.StreamResponse) -> None:
    for name, value in GUARDS.items():
        answer.headers[name] = value


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
