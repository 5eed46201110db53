"""Input of a run: numbered transactions, whose ids identify them in the audit."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaProducer

from schemas.configuration.settings import Settings
from schemas.transaction_ids import TRANSACTION_ID_HEADER
from stream_app.kafka.replay import CachedPartitioner
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic

MAX_IN_FLIGHT = 20_000
INITIAL_RECORDS = 100  # records sent at once; the rest is sent when the workers decide


def numbered_transactions(n: int, seed: int, invalid_share: float) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Id, key and payload of n simulated transactions. invalid_share: share that cannot be scored."""
    traffic = Traffic(rows=n, seed=seed, payload_format="mixed", invalid_share=invalid_share, days=2)
    for number, (key, value) in enumerate(keyed_payloads(traffic)):
        yield b"%d" % number, key, value


class InputProducer(threading.Thread):
    """Produces the input at a constant rate, also during broker outages; all records are acknowledged at its end."""

    def __init__(self, settings: Settings, *, n: int, seed: int, invalid_share: float, rate: float) -> None:
        """rate: maximum transactions per second."""
        super().__init__(name="input", daemon=True)
        self.sent = 0
        self.flow = threading.Event()  # set when the workers decide, so that faults occur in a stream, not in a backlog
        self.failed: BaseException | None = None
        self._settings, self._n, self._seed, self._invalid_share, self._rate = settings, n, seed, invalid_share, rate

    def run(self) -> None:
        """Produce all transactions."""
        try:
            self._produce()
        except BaseException as error:
            self.failed = error

    def _produce(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            batch_size=128 * 1024,
            delivery_timeout_ms=600_000,
            max_block_ms=600_000,
            partitioner=CachedPartitioner(),
        )
        waiting: list[Any] = []
        started = time.monotonic()
        for identity, key, value in numbered_transactions(self._n, self._seed, self._invalid_share):
            if self.sent == INITIAL_RECORDS:
                self.flow.wait()
                started = time.monotonic()
            ahead = self.sent / self._rate - (time.monotonic() - started)
            if ahead > 0.005:
                time.sleep(ahead)
            headers = [(TRANSACTION_ID_HEADER, identity)]
            waiting.append(producer.send(self._settings.transactions_topic, key=key, value=value, headers=headers))
            self.sent += 1
            if len(waiting) >= MAX_IN_FLIGHT:
                for future in waiting:
                    future.get(600)
                waiting = []
        for future in waiting:
            future.get(600)
        producer.close()
