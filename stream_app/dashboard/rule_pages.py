"""The API of rules and lists, `/v1/rules` and `/v1/lists`: it writes what `tamiz rules` and `tamiz lists` write."""

import asyncio
import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import msgspec
from aiohttp import web

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError, TamizError
from schemas.rules import ListEntry, RulesetRecord, RulesFile
from schemas.security.actor import web_actor
from schemas.security.web_users import Role
from stream_app.dashboard.rule_board import RuleBoard
from stream_app.dashboard.rule_messages import (
    ApprovalForm,
    ChangeReply,
    EntriesForm,
    ListQuery,
    ModeForm,
    RollbackForm,
)
from stream_app.web.http_server import json_response, read_json, read_query, refusal
from stream_app.web.web_auth import USER, Authenticator

log = logging.getLogger("tamiz.dashboard")
NAME = r"[a-z0-9][a-z0-9-]{0,63}"  # `schemas.rules.RuleName`

T = TypeVar("T")


class RulePages:
    """Answers requests on the event loop that serves them."""

    def __init__(self, settings: Settings, auth: Authenticator, board: RuleBoard, lock: Lock) -> None:
        """lock: is held while the board is read."""
        self._settings = settings
        self._dataset = load_dataset(settings.dataset)
        self._auth = auth
        self._board = board
        self._lock = lock

    def routes(self) -> list[web.RouteDef]:
        """The routes of the API."""
        return [
            web.get("/v1/rules", self._rules),
            web.post("/v1/rules/approve", self._approve),
            web.post("/v1/rules/rollback", self._roll_back),
            web.post(f"/v1/rules/{{id:{NAME}}}/mode", self._set_mode),
            web.get("/v1/lists", self._lists),
            web.post(f"/v1/lists/{{list:{NAME}}}", self._change_entries),
        ]

    async def _rules(self, _: web.Request) -> web.Response:
        with self._lock:
            return json_response(self._board.rules())

    async def _lists(self, request: web.Request) -> web.Response:
        query = read_query(request, ListQuery)
        if not 1 <= query.limit <= 500:
            raise refusal(400, f"limit is {query.limit}; use a number from 1 to 500")

        def read() -> web.Response:
            with self._lock:
                return json_response(self._board.lists(query.list, query.value, query.limit, self._dataset.key))

        return await asyncio.to_thread(read)

    async def _approve(self, request: web.Request) -> web.Response:
        by, form = self._actor(request, "approve"), await read_json(request, ApprovalForm)
        from stream_app.rules.ruleset_records import approve_ruleset  # loads Numba

        return await self._change(
            lambda: approve_ruleset(self._settings, self._dataset, form.number, reason=form.reason, by=by)
        )

    async def _roll_back(self, request: web.Request) -> web.Response:
        by, form = self._actor(request, "approve"), await read_json(request, RollbackForm)
        from stream_app.rules.ruleset_records import roll_back_ruleset  # loads Numba

        return await self._change(lambda: roll_back_ruleset(self._settings, self._dataset, reason=form.reason, by=by))

    async def _set_mode(self, request: web.Request) -> web.Response:
        by, form = self._actor(request, "approve"), await read_json(request, ModeForm)
        from stream_app.rules.ruleset_records import activate_ruleset  # loads Numba

        id_ = request.match_info["id"]
        with self._lock:
            record = self._board.in_force
        content = RulesFile() if record is None else record.content
        if id_ not in {rule.id for rule in content.rules}:
            raise refusal(404, f"the ruleset in force has no rule {id_!r}")
        changed = tuple(
            msgspec.structs.replace(rule, mode=form.mode) if rule.id == id_ else rule for rule in content.rules
        )
        return await self._change(
            lambda: activate_ruleset(
                self._settings,
                self._dataset,
                msgspec.structs.replace(content, rules=changed),
                reason=form.reason,
                by=by,
                force=form.force,
            )
        )

    async def _change(self, write: Callable[[], RulesetRecord]) -> web.Response:
        record = await _written(write)
        log.info("ruleset %d %s by %s: %s", record.number, record.change, record.by, record.reason)
        waits = "waits for the approval of another person" if record.change == "proposed" else "is in force"
        return json_response(ChangeReply(text=f"Ruleset {record.number} {waits}."))

    async def _change_entries(self, request: web.Request) -> web.Response:
        form = await read_json(request, EntriesForm)
        by = self._actor(request, "approve" if form.effect == "allow" and not form.removed else "review")
        name, field = request.match_info["list"], form.field or self._dataset.key
        if field is None:
            raise refusal(
                400, f"field is missing, and the data set {self._dataset.name!r} declares no key; name a field"
            )
        entries = [
            ListEntry(
                list=name,
                field=field,
                value=value,
                effect=form.effect,
                reason=form.reason,
                by=by,
                at_ms=int(time.time() * 1000),
                until_ms=form.until_ms,
                removed=form.removed,
            )
            for value in dict.fromkeys(form.values)
        ]
        from stream_app.rules.list_records import write_list_entries  # loads Numba

        written = await _written(lambda: write_list_entries(self._settings, self._dataset, entries))
        log.info(
            "list %s: %d values %s by %s: %s",
            name,
            len(written),
            "removed" if form.removed else "added",
            by,
            form.reason,
        )
        with self._lock:
            for entry in written:
                self._board.add_entry(entry)
        values = "1 value is" if len(written) == 1 else f"{len(written)} values are"
        return json_response(ChangeReply(text=f"{values} {'off' if form.removed else 'on'} the list {name}."))

    def _actor(self, request: web.Request, role: Role) -> str:
        return web_actor(self._auth.require(request[USER], role).name)


async def _written(write: Callable[[], T]) -> T:
    """The result of a change, made in a thread. Raises HTTPException if it is refused or cannot be written."""
    try:
        return await asyncio.to_thread(write)
    except BrokerError as error:
        raise refusal(503, str(error)) from None
    except TamizError as error:  # it does not compile, is not tested, or another person was faster
        raise refusal(409, str(error)) from None
