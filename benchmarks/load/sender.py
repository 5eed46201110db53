"""Sends prepared requests, one per tick: `python -m benchmarks.load.sender BOOTSTRAP JOB_FILE ANSWERS_FILE`.

The job file holds the requests, which are sent in turn, the moment of the first tick (of the monotonic clock, which all
processes of a machine share), the length of a tick and the number of ticks. A broker handles the requests of one
connection one after the other, so they are spread over several. The file of answers holds tick, partition and first
offset of each batch. Prints a JSON report: how late the sender was, and the broker with its acknowledgements.
"""

import gc
import json
import pickle
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.produce_requests import ProduceConnection, ProduceRequest

CONNECTIONS = 8
NOTABLE_S = 0.05  # lateness that is reported with its tick


def main() -> None:
    bootstrap, job, answers = sys.argv[1:]
    requests, start, tick_s, ticks = pickle.loads(Path(job).read_bytes())  # our own file
    print(json.dumps(send(bootstrap, requests, start, tick_s, ticks, Path(answers))))


def send(
    bootstrap: str, requests: list[ProduceRequest], start: float, tick_s: float, ticks: int, path: Path
) -> dict[str, object]:
    """Send one request at each tick."""
    connections = [ProduceConnection(bootstrap) for _ in range(CONNECTIONS)]
    late = array("d", bytes(8 * ticks))
    gc.disable()
    for tick in range(ticks):
        due = start + tick * tick_s
        if (ahead := due - time.monotonic()) > 0:
            time.sleep(ahead)
        connections[tick % CONNECTIONS].send(requests[tick % len(requests)].stamped(), tick)
        late[tick] = time.monotonic() - due
    for connection in connections:
        connection.finish()
    path.write_bytes(b"".join(connection.answers.tobytes() for connection in connections))
    answered = array("d")
    for connection in connections:
        pairs = zip(connection.answered, connection.answered_at, strict=True)
        answered.extend(at - start - tick * tick_s for tick, at in pairs)
    return {
        "late_ms": _milliseconds(late),
        "acknowledged_ms": _milliseconds(answered),
        "late": [[tick * tick_s, one] for tick, one in enumerate(late) if one > NOTABLE_S],
    }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{q}": 1e3 * ordered[q * len(ordered) // 100] for q in (50, 99)} | {"max": 1e3 * ordered[-1]}


if __name__ == "__main__":
    main()
