"""CPU time and size of each compression codec on decisions: `python -m benchmarks.components.codecs`.

CPU time per record of aiokafka's encoder and decoder, in batches of several sizes.
"""

import time
from collections.abc import Callable

import msgspec
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from rich.console import Console
from rich.table import Table

from schemas.records import Decision, Reason
from scoring.decision import decision_id

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SIZES = (10, 100, 1_000)
REPEATS = 7


Records = list[tuple[bytes, bytes, list[tuple[str, bytes]]]]


def decisions(n: int) -> Records:
    """Keys, values and headers as a worker writes them; one in fifty has reasons."""
    made = []
    for i in range(n):
        name = f"transactions-3-{1_000_000 + i}@hT2xNq8v"
        why = tuple(
            Reason(feature=f, value=v, contribution=0.1 + i % 7 / 9, text=f"{f} is {v}")
            for f, v in (("monto", 608.34 + i), ("ciudad", "Merida"), ("device_os", "ANDROID"))
        )
        decision = Decision(
            decision_id=decision_id(name),
            transaction_id=name,
            score=(i * 7_919 % 10_007) / 10_007,
            outcome="approve" if i % 50 else "review",
            model_outcome="approve" if i % 50 else "review",
            decided_by="model",
            exploration_share=None,
            ruleset=None,
            threshold=0.0 if i % 50 else 0.52,
            reasons=() if i % 50 else why,
            model="card-transactions",
            model_version=3,
            event_time_ms=1_578_254_400_000 + 137 * i,
        )
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_source", b"/tamiz/card-transactions/3"),
            ("ce_type", b"tamiz.decision.v1"),
            ("content-type", b"application/json"),
            ("ce_id", decision.decision_id.encode()),
            ("ce_time", b"2020-01-05T20:00:00.000Z"),
            ("tamiz-offset", b"%d" % (1_000_000 + i)),
        ]
        made.append((b"%d" % (i * 31 % 1_000), msgspec.json.encode(decision), headers))
    return made


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU, minimum of several repetitions."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(10):
            work()
        best = min(best, (time.process_time() - began) / 10)
    return best


def main() -> None:
    """Print the table."""
    table = Table("records in a batch", "codec", "bytes a record", "µs to write", "µs to read")
    for n in SIZES:
        records = decisions(n)
        for codec, name in enumerate(CODECS):

            def build(codec: int = codec, records: Records = records) -> bytes:
                builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 22)
                for i, (key, value, headers) in enumerate(records):
                    builder.append(i, 1_600_000_000_000, key, value, headers)
                return bytes(builder.build())

            data = build()
            writing, reading = cpu(build), cpu(lambda data=data: list(DefaultRecordBatch(data)))  # type: ignore[misc]
            table.add_row(str(n), name, f"{len(data) / n:.0f}", f"{writing / n * 1e6:.2f}", f"{reading / n * 1e6:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
