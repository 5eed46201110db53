"""The pure handler without Kafka, on batches of a file's payloads: prints CPU microseconds per transaction, as JSON."""

import gc
import json
import sys
import time
from pathlib import Path

from benchmarks.peers.job import Job, PeerRecord, Work


def main() -> None:
    path, size, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    work = Work(Job("", "transactions", "", "", "alone", 0.0, Path(sys.argv[4])))
    with path.open("rb") as file:
        values = [line.rstrip(b"\n") for line, _ in zip(file, range(200_000), strict=False)]
    records = [PeerRecord("transactions", i % 4, i, b"%d" % (i % 4000), value) for i, value in enumerate(values)]
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    work(batches[0])
    gc.freeze()  # no worker holds so many records at once
    handled, started, cpu = 0, time.monotonic(), time.process_time()
    for batch in batches:
        work(batch)
        handled += len(batch)
        if time.monotonic() - started > seconds:
            break
    print(json.dumps(1e6 * (time.process_time() - cpu) / handled))


if __name__ == "__main__":
    main()
