"""Creates Kafka clients: connection, TLS and SASL settings, and a readable error if no broker responds.

Read records with `RecordConsumer`: kafka-python's own consumer fails on some records that brokers accept. It relies on
internals of kafka-python 3.0 (each has a test in tests/contract/test_faust_contract.py):
`KafkaConsumer._fetcher`, `Fetcher.fetched_records`, `._append`, `.PartitionRecords`, its `_unpack_records` and
`next_fetch_offset`, `MemoryRecords._buffer`.
"""

import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch

from schemas.configuration.kafka_config import Access, ClusterAddress
from schemas.errors import BrokerError, ConfigError
from stream_app.kafka.batches.record_batches import FETCH_BYTES, KEEP_BYTES, RecordBatches
from stream_app.kafka.batches.record_stream import Budget

# Codec of high-volume producers. On decisions: a ninth of the bytes for less than a microsecond of CPU per record
# (`python -m benchmarks.components.codecs`); lz4, snappy and gzip save less, and lz4 and gzip cost more.
COMPRESSION = "zstd"
DELIVERY_TIMEOUT_S = 30  # of a service's producer: for the broker to acknowledge a record
METADATA_MAX_AGE_MS = 15_000  # of long-running clients: added partitions are detected within this time


class RecordConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python has no types
    """kafka-python's consumer, patched to read any record (`stream_app.kafka.batches.record_batches`).

    A poll returns at most `FETCH_BYTES` of decoded records, regardless of `max_poll_records`, because compressed
    kilobytes can expand to gigabytes. The next poll continues from there.
    """

    def __init__(self, *topics: str, keep_bytes: int = KEEP_BYTES, **options: Any) -> None:
        """keep_bytes: largest key or value to keep, if more than `KEEP_BYTES`; longer ones become `TruncatedBytes`."""
        super().__init__(*topics, **options)
        budget, fetcher = Budget(FETCH_BYTES), self._fetcher
        records, append = fetcher.fetched_records, fetcher._append

        def fetched_records(*args: Any, **options: Any) -> Any:
            budget.renew()
            return records(*args, **options)

        def append_within_budget(drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
            appended: int = append(drained, part, max_records, update_offsets)
            # Returning `max_records` ends the fetcher's loop: other partitions wait for the next poll, and the rest of
            # this one is fetched again.
            return max_records if budget.is_spent else appended

        fetcher.fetched_records, fetcher._append = fetched_records, append_within_budget
        fetcher.PartitionRecords = functools.partial(_PartitionRecords, max(KEEP_BYTES, keep_bytes), budget)


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    def __init__(self, keep_bytes: int, budget: Budget, *args: Any, **options: Any) -> None:
        self._keep_bytes, self._budget = keep_bytes, budget
        super().__init__(*args, **options)

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        batches = RecordBatches(records._buffer, DefaultRecordBatch, LegacyRecordBatch, self._keep_bytes, self._budget)
        batches.first_offset = self.next_fetch_offset
        return super()._unpack_records(tp, batches, *deserializers)  # type: ignore[no-any-return]


def client_config(bootstrap: str) -> dict[str, Any]:
    """Keyword arguments for every client, of kafka-python and aiokafka: servers, protocol, TLS and SASL.

    bootstrap: `Settings.bootstrap`; a plain string is a cluster without authentication. Raises ConfigError if a
    certificate or key cannot be used.
    """
    access = bootstrap.access if isinstance(bootstrap, ClusterAddress) else Access()
    options = {
        "bootstrap_servers": str(bootstrap),
        "security_protocol": access.protocol,
        "ssl_context": tls(access),
        "sasl_mechanism": access.mechanism,
        "sasl_plain_username": access.username,
        "sasl_plain_password": access.password.reveal() if access.password else None,
    }
    return {name: value for name, value in options.items() if value is not None}


def reader(bootstrap: str, **options: Any) -> RecordConsumer:
    """A consumer without a group. It commits nothing and reads committed records only.

    options: further options of `RecordConsumer`.
    """
    return RecordConsumer(
        **client_config(bootstrap),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        **options,
    )


def service_producer(bootstrap: str, **options: Any) -> KafkaProducer:
    """A producer for a service that sends few records. Each fails after `DELIVERY_TIMEOUT_S` without acknowledgement.

    options: further options of `KafkaProducer`.
    """
    return KafkaProducer(
        **client_config(bootstrap),
        allow_auto_create_topics=False,
        max_block_ms=DELIVERY_TIMEOUT_S * 1000,
        delivery_timeout_ms=DELIVERY_TIMEOUT_S * 1000,
        request_timeout_ms=15_000,
        bootstrap_timeout_ms=15_000,
        **options,
    )


def committing_reader(bootstrap: str, group: str) -> RecordConsumer:
    """A consumer that commits for a group but is assigned manually. Starts at the beginning without a committed offset.

    It does not join the group, because a member that works for long without polling would be removed.
    """
    return RecordConsumer(
        **client_config(bootstrap),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # also if retention has deleted unread records
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        bootstrap_timeout_ms=15_000,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )


@functools.cache
def tls(access: Access) -> ssl.SSLContext | None:
    """The TLS context, None for a protocol without TLS. Certificates and host names are always verified.

    Raises ConfigError if a certificate or key cannot be used.
    """
    if not access.protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=access.cafile)
        if access.certfile and access.keyfile:
            context.load_cert_chain(access.certfile, access.keyfile)
    except (OSError, ValueError) as error:
        files = ", ".join(name for name in (access.cafile, access.certfile, access.keyfile) if name)
        raise ConfigError(f"ssl_cafile, ssl_certfile, ssl_keyfile ({files}): cannot be used: {error}") from None
    return context


@contextlib.contextmanager
def require_broker(bootstrap: str, *, connect_timeout_s: float = 10) -> Iterator[None]:
    """Create a client inside this context. Raises BrokerError if no server responds within `connect_timeout_s` each."""
    try:
        _check_connection(bootstrap, connect_timeout_s)
        yield
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerError(
            f"no Kafka broker responds at {bootstrap} ({error}); start one with `tamiz broker`, or set "
            "TAMIZ_BOOTSTRAP_SERVERS"
        ) from None


def _check_connection(bootstrap: str, connect_timeout_s: float) -> None:
    """Raise OSError if no server accepts a connection; kafka-python would retry and leave sockets open."""
    last_error: OSError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=connect_timeout_s):
                return
        except OSError as error:
            last_error = error
    if last_error is not None:
        raise last_error


def readable_codecs() -> dict[str, bool]:
    """Codec name -> whether both clients and Tamiz' decoder can read records compressed with it."""
    import aiokafka.codec
    import kafka.codec

    try:
        import stream_app.kafka.batches.decompression  # noqa: F401 (it imports the codec libraries)
    except ImportError:
        return dict.fromkeys(("gzip", "snappy", "lz4", "zstd"), False)
    return {
        name: bool(getattr(aiokafka.codec, f"has_{name}")() and getattr(kafka.codec, f"has_{name}")())
        for name in ("gzip", "snappy", "lz4", "zstd")
    }
