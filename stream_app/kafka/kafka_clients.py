"""Making Kafka clients: how to be let in; knock first, and one readable line when nobody answers.

`RecordConsumer` is the consumer to read records with: kafka-python's own ends on some that every broker accepts.
It rests on internals of kafka-python 3.0 (each has a test in tests/contract/test_faust_contract.py):
`KafkaConsumer._fetcher`, `Fetcher.fetched_records`, `._append`, `.PartitionRecords`, its `_unpack_records` and
`next_fetch_offset`, `MemoryRecords._buffer`.
"""

import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import KafkaError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch

from schemas.configuration.kafka_config import Access, ClusterAddress
from schemas.errors import BrokerError, ConfigError
from stream_app.kafka.record_batches import FETCH_BYTES, KEEP_BYTES, RecordBatches
from stream_app.kafka.record_stream import Budget

# Of what is produced in volume. On decisions: a ninth of the bytes for less than a microsecond of CPU a record
# (`python -m benchmarks.components.codecs`); lz4, snappy and gzip save less, and lz4 and gzip cost more.
COMPRESSION = "zstd"
METADATA_MAX_AGE_MS = 30_000  # of readers that run on: partitions that are added are found within that time


class RecordConsumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python has no types
    """kafka-python's consumer, made to get past any record (`stream_app.kafka.record_batches`).

    A poll ends when it has made `FETCH_BYTES` of records, whatever `max_poll_records` allows: kilobytes that are
    compressed may stand for gigabytes. The next poll goes on from there.
    """

    def __init__(self, *topics: str, keep_bytes: int = KEEP_BYTES, **options: Any) -> None:
        """keep_bytes: of a key or value, if more than `KEEP_BYTES`; a longer one becomes a `TruncatedBytes`."""
        super().__init__(*topics, **options)
        budget, fetcher = Budget(FETCH_BYTES), self._fetcher
        records, append = fetcher.fetched_records, fetcher._append

        def fetched_records(*args: Any, **options: Any) -> Any:
            budget.renew()
            return records(*args, **options)

        def append_within_budget(drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
            appended: int = append(drained, part, max_records, update_offsets)
            # "As many as you want" ends the fetcher's loop: other partitions' answers wait for the next poll, and what
            # is left of this one is fetched again.
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
    """What every client is made with, kafka-python's and aiokafka's alike: where the cluster is and the way in.

    bootstrap: `Settings.bootstrap`; a plain text is a cluster that lets everybody in. Raises ConfigError when a
    certificate or key cannot be used.
    """
    access = bootstrap.access if isinstance(bootstrap, ClusterAddress) else Access()
    given = {
        "bootstrap_servers": str(bootstrap),
        "security_protocol": access.protocol,
        "ssl_context": tls(access),
        "sasl_mechanism": access.mechanism,
        "sasl_plain_username": access.username,
        "sasl_plain_password": access.password.reveal() if access.password else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def reader(bootstrap: str, **options: Any) -> RecordConsumer:
    """A consumer without a group: it commits nothing and sees only what is committed.

    options: more of `RecordConsumer`'s.
    """
    return RecordConsumer(
        **client_config(bootstrap),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        **options,
    )


def committing_reader(bootstrap: str, group: str) -> RecordConsumer:
    """A consumer that commits for a group and is assigned by hand; where it committed nothing it begins at the start.

    Not a member of the group: one that works for long without a poll would be removed from it.
    """
    return RecordConsumer(
        **client_config(bootstrap),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # also where records were deleted before they were read
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        bootstrap_timeout_ms=15_000,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )


@functools.cache
def tls(access: Access) -> ssl.SSLContext | None:
    """The TLS context of a way in, None for one without: certificates and host names are always checked.

    Raises ConfigError when a certificate or key cannot be used.
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
def require_broker(bootstrap: str, *, patience_s: float = 10) -> Iterator[None]:
    """Make a client inside. Raises BrokerError when no server answers within `patience_s` each."""
    try:
        _knock(bootstrap, patience_s)
        yield
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerError(
            f"no Kafka answers at {bootstrap} ({error}); start one with `tamiz broker`, or set TAMIZ_BOOTSTRAP_SERVERS"
        ) from None


def _knock(bootstrap: str, patience_s: float) -> None:
    """Raise OSError when none of the servers takes a connection: kafka-python would try on, and leave sockets open."""
    refused: OSError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=patience_s):
                return
        except OSError as error:
            refused = error
    if refused is not None:
        raise refused


def readable_codecs() -> dict[str, bool]:
    """Of each codec that Kafka knows, whether both clients and our own decoder can read records compressed with it."""
    import aiokafka.codec
    import kafka.codec

    try:
        import stream_app.kafka.decompression  # noqa: F401 (it imports what it decompresses with)
    except ImportError:
        return dict.fromkeys(("gzip", "snappy", "lz4", "zstd"), False)
    return {
        name: bool(getattr(aiokafka.codec, f"has_{name}")() and getattr(kafka.codec, f"has_{name}")())
        for name in ("gzip", "snappy", "lz4", "zstd")
    }
