"""aiokafka's connections without a task for each: responses are cut from the stream where they arrive.

aiokafka reads a connection with a task and a `StreamReader`, so that a response wakes the event loop twice before
anybody sees it. It encodes requests field by field, and a response becomes a tree of objects. `send` sends bytes and
returns bytes. Connecting, TLS, SASL and all other requests remain aiokafka's.

Internals of aiokafka 0.14.0 that this relies on (tests: tests/contract/test_faust_contract.py): of
`AIOKafkaConnection` `_create_reader_task`, `_handle_frame`, `_requests`, `_writer`, `_versions`, `_closed_fut`,
`_request_timeout`, `_last_action`, `_next_correlation_id`, `close`; of `AIOKafkaClient` `_get_conn` and `_conns`.
"""

import asyncio
import logging
import struct
import time
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import (
    CorrelationIdError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    NodeNotReadyError,
    RequestTimedOutError,
)

log = logging.getLogger("tamiz.kafka")
_INT32 = struct.Struct(">i")
_HEADER = struct.Struct(">ihhih")  # size, key and version of the API, correlation id, length of the client's id


class EncodedRequest:
    """Takes the place of aiokafka's request while a response is awaited: the response is not decoded."""


_ENCODED = EncodedRequest()


class FrameProtocol(asyncio.Protocol):
    """Passes each response of a broker to its connection."""

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._connection: AIOKafkaConnection | None = connection
        self._parts: list[bytes] = []  # received and not passed on
        self._received = 0
        self._needed = _INT32.size

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._parts.append(data)
        self._received += len(data)
        if self._received < self._needed:
            return
        received = data if len(self._parts) == 1 else b"".join(self._parts)
        at = 0
        while (connection := self._connection) is not None:
            left = len(received) - at
            self._needed = _INT32.size
            if left < self._needed:
                break
            self._needed += max(0, _INT32.unpack_from(received, at)[0])
            if left < self._needed:
                break
            try:
                _pass_on(connection, received[at + _INT32.size : at + self._needed])
            except Exception as error:
                log.exception("a response of %s:%s cannot be used", connection.host, connection.port)
                connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
                return
            at += self._needed
        self._parts = [received[at:]] if at < len(received) else []
        self._received = len(received) - at

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        if not connection._closed_fut.done():
            connection._closed_fut.set_result(None)


def _pass_on(connection: AIOKafkaConnection, frame: bytes) -> None:
    if not connection._requests:
        raise CorrelationIdError("the broker sent a response without a request")
    correlation_id, request, response = connection._requests[0]
    if request is not _ENCODED:
        connection._handle_frame(frame)
        return
    (found,) = _INT32.unpack_from(frame)
    if found != correlation_id:
        raise CorrelationIdError(f"correlation ids do not match: sent {correlation_id}, received {found}")
    connection._last_action = time.monotonic()
    connection._requests.popleft()
    if not response.done():
        response.set_result(frame)


def _read_frames(connection: AIOKafkaConnection) -> Any:
    """Takes the place of `AIOKafkaConnection._create_reader_task`, which is called once the connection is open."""
    connection._writer.transport.set_protocol(FrameProtocol(connection))
    task: asyncio.Future[None] = connection._loop.create_future()  # `close` looks whether the task has ended
    task.set_result(None)
    return task


async def connect(
    client: AIOKafkaClient, node: int, group: ConnectionGroup = ConnectionGroup.DEFAULT
) -> AIOKafkaConnection:
    """The connection to a node, opened if necessary. Raises KafkaError."""
    connection = client._conns.get((node, group))
    if connection is None or not connection.connected():
        connection = await client._get_conn(node, group=group)
        if connection is None:
            raise NodeNotReadyError(f"node {node} is not ready")
    return connection


def require_api(connection: AIOKafkaConnection, api: tuple[int, int]) -> None:
    """Raise IncompatibleBrokerVersion if the node does not have a version of an API."""
    least, greatest = connection._versions.get(api[0], (0, -1))
    if not least <= api[1] <= greatest:
        raise IncompatibleBrokerVersion(
            f"{connection.host}:{connection.port} has versions {least} to {greatest} of API {api[0]}, not {api[1]};"
            " workers need Kafka 2.3 or newer"
        )


async def exchange(client: AIOKafkaClient, node: int, request: Any, group: ConnectionGroup) -> Any:
    """As `AIOKafkaClient.send`, for requests that are small and not flexible, with fewer tasks and futures."""
    connection = await connect(client, node, group)
    encoded = request.prepare(connection._versions)
    if encoded.FLEXIBLE_VERSION:
        return await client.send(node, request, group=group)
    response = await send(connection, (encoded.API_KEY, encoded.API_VERSION), encoded.encode())
    return encoded.RESPONSE_TYPE.decode(BytesIO(response[_INT32.size :]))


def send(connection: AIOKafkaConnection, api: tuple[int, int], body: bytes) -> asyncio.Future[bytes]:
    """Send an encoded request. Returns a future of the response, from its correlation id on.

    api: number and version, one with a request header of version 1. Raises KafkaConnectionError.
    """
    if connection._writer is None:
        raise KafkaConnectionError(f"no connection to {connection.host}:{connection.port}")
    correlation_id, name = connection._next_correlation_id(), connection._client_id.encode()
    size = _HEADER.size - _INT32.size + len(name) + len(body)
    connection._writer.write(_HEADER.pack(size, *api, correlation_id, len(name)) + name + body)
    loop = connection._loop
    response: asyncio.Future[bytes] = loop.create_future()
    connection._requests.append((correlation_id, _ENCODED, response))
    timer = loop.call_later(connection._request_timeout, _time_out, connection, response)
    response.add_done_callback(lambda _: timer.cancel())
    return response


def _time_out(connection: AIOKafkaConnection, response: asyncio.Future[bytes]) -> None:
    if not response.done():
        response.set_exception(RequestTimedOutError())
    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)


def install() -> None:
    """Patch aiokafka for all connections opened from now on."""
    AIOKafkaConnection._create_reader_task = _read_frames
