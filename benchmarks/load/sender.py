"""Sends prepared requests, one per tick: `python -m benchmarks.load.sender BOOTSTRAP JOB_FILE`. Prints a JSON report.

The job file holds the requests, which are sent in turn, the moment of the first tick (of the monotonic clock, which
all processes of a machine share), the length of a tick and the number of ticks.
"""

import gc
import json
import pickle
import sys
import time
from array import array
from pathlib import Path

from benchmarks.load.produce_requests import ProduceConnection, ProduceRequest


def main() -> None:
    bootstrap, path = sys.argv[1:]
    requests, start, tick_s, ticks = pickle.loads(Path(path).read_bytes())  # our own file
    print(json.dumps(send(bootstrap, requests, start, tick_s, ticks)))


def send(bootstrap: str, requests: list[ProduceRequest], start: float, tick_s: float, ticks: int) -> dict[str, object]:
    """Send one request at each tick; returns first offsets by partition, and how late the sender was."""
    connection = ProduceConnection(bootstrap)
    late = array("d", bytes(8 * ticks))
    gc.disable()
    for tick in range(ticks):
        due = start + tick * tick_s
        if (ahead := due - time.monotonic()) > 0:
            time.sleep(ahead)
        connection.send(requests[tick % len(requests)].stamped())
        late[tick] = time.monotonic() - due
    connection.finish()
    ordered = sorted(late)
    return {
        "first_offsets": connection.first_offsets,
        "late_ms": {"p99": 1e3 * ordered[int(0.99 * len(ordered))], "max": 1e3 * ordered[-1]},
        "late": [[tick * tick_s, one] for tick, one in enumerate(late) if one > 0.05],
    }


if __name__ == "__main__":
    main()
