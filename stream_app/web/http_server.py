"""The common base of all HTTP servers: security headers, host check, forms, error responses.

Every response has the same security headers and none contains a traceback. Errors are logged at a bounded rate.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from schemas.json_codec import decode
from schemas.security.hosts import LOOPBACK_NAMES, host_name
from schemas.security.sanitizer import printable
from stream_app.web.request_limit import LogLimiter

log = logging.getLogger("tamiz.http")
MAX_BODY_BYTES = 16 * 1024
MAX_FORM_FIELDS = 20
KEEPALIVE_TIMEOUT_S = 75.0
MAX_EXCERPT_LENGTH = 100  # characters of a client's text in a response or the log
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "same-origin",  # `no-referrer` would also remove the Origin of the pages' own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "tamiz",  # aiohttp's default names the versions of Python and aiohttp
}
HSTS = "max-age=31536000"

T = TypeVar("T", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _RefusalError(web.HTTPException):
    """An error response with a status of its own."""

    status_code = 400  # replaced for each


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    """An exception to raise: a response with one line of JSON, `{"error": why}`."""
    error = _RefusalError(
        headers=headers, text=msgspec.json.encode({"error": why}).decode(), content_type="application/json"
    )
    error.set_status(status)
    return error


def excerpt(text: str) -> str:
    """A client's text, truncated and printable, for a response or the log."""
    return printable(text, MAX_EXCERPT_LENGTH)


def application(guard: Any, is_secure: Callable[[web.Request], bool]) -> web.Application:
    """An application for `runner`, which adds the security headers. guard: the middleware that authorizes requests."""
    app = web.Application(middlewares=[_errors(LogLimiter()), guard], client_max_size=MAX_BODY_BYTES)

    async def set_transport(request: web.Request, answer: web.StreamResponse) -> None:
        if is_secure(request):
            answer.headers["Strict-Transport-Security"] = HSTS

    app.on_response_prepare.append(set_transport)
    return app


class _Request(web.Request):
    """A request whose response always has the security headers.

    This includes aiohttp's own responses to invalid HTTP, for which it calls no handler and no signal.
    """

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        await super()._prepare_hook(response)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.request_factory = partial(self.app._make_request, _cls=_Request)
        return server


def runner(app: web.Application) -> web.AppRunner:
    """A runner whose responses all have the security headers, and which logs invalid HTTP at a bounded rate."""
    return _Runner(
        app,
        access_log=None,
        logger=_ServerLog(),
        auto_decompress=False,  # compressed forms are not needed, and kilobytes could expand to gigabytes
        keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        shutdown_timeout=1,
    )


def is_own_host(request: web.Request, names: frozenset[str]) -> bool:
    """Whether the single Host header is a loopback name or one of `names`, as a protection against DNS rebinding."""
    hosts = request.headers.getall("Host", [])
    return len(hosts) == 1 and host_name(hosts[0]) in LOOPBACK_NAMES | names


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a posted form. Raises HTTPException for an invalid body."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise refusal(415, "send the form uncompressed")
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise refusal(415, "send the form as application/x-www-form-urlencoded")
    try:
        text = (await request.read()).decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise refusal(400, f"the form has more than {MAX_FORM_FIELDS} fields") from None


async def read_json(request: web.Request, type_: type[T]) -> T:
    """The body of a request as a message. Raises HTTPException for an invalid body."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise refusal(415, "send the message uncompressed")
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise refusal(415, "send the message as application/json")
    try:
        return decode(await request.read(), type_)
    except msgspec.MsgspecError as error:
        raise refusal(400, f"the body is no valid message: {excerpt(str(error))}") from None


def read_query(request: web.Request, type_: type[T]) -> T:
    """The query of a request as a message. Raises HTTPException for an unknown parameter or an invalid value."""
    names = type_.__struct_fields__
    for name in request.query:
        if name not in names:
            raise refusal(400, f"unknown parameter {excerpt(name)!r}; the parameters are {', '.join(names)}")
    try:
        return msgspec.convert(dict(request.query), type_, strict=False)
    except msgspec.ValidationError as error:
        raise refusal(400, f"a parameter is not valid: {excerpt(str(error))}") from None


def json_response(message: msgspec.Struct) -> web.Response:
    """A message as JSON."""
    return web.Response(body=msgspec.json.encode(message), content_type="application/json")


def _errors(limiter: LogLimiter) -> Any:
    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except ConnectionError:  # the client disconnected; aiohttp handles it
            raise
        except Exception as error:
            client_fault = isinstance(error, (UnicodeError, web.PayloadAccessError)) or _is_protocol_error(error)
            if (suppressed := limiter.allow()) is not None:
                log.error(
                    "%s %s: %s: %s (%d more since the last such line)",
                    excerpt(request.method), excerpt(request.path), type(error).__name__, excerpt(str(error)),
                    suppressed,
                    exc_info=None if client_fault else error,
                )  # fmt: skip
            if client_fault:
                raise refusal(400, "malformed request") from None
            raise refusal(503, "internal error; see the server's log") from None

    return answer_errors


def _is_protocol_error(error: Exception) -> bool:
    from aiohttp.http_exceptions import HttpProcessingError

    return isinstance(error, HttpProcessingError)


class _ServerLog:
    """Logger for aiohttp: one line at a bounded rate, without the traceback that it logs by default."""

    def __init__(self) -> None:
        self._limiter = LogLimiter()

    def exception(self, message: str, *args: object, exc_info: object = None) -> None:
        """Log invalid HTTP, at a bounded rate."""
        if (suppressed := self._limiter.allow()) is not None:
            log.warning(
                "%s: %s (%d more since the last such line)", message % args, type(exc_info).__name__, suppressed
            )

    def debug(self, message: str, *args: object, exc_info: object = None) -> None:
        """Log at debug level."""
        log.debug(message, *args)

    error = warning = info = debug
