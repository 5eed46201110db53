"""The monitor's intake while the registry is unreachable or hangs."""

import threading
import time

import pytest

from stream_app.monitor import monitor_intake
from stream_app.monitor.monitor_intake import KnownVersions


def test_a_registry_that_hangs_blocks_nothing_and_its_answer_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor_intake, "MAX_WAIT_S", 0.05)
    monkeypatch.setattr(monitor_intake, "AWAY_INTERVAL_S", 0.05)
    released = threading.Event()

    def registered() -> set[int]:
        assert released.wait(10)
        return {1, 2}

    versions = KnownVersions(registered, lambda: {1})
    since = time.monotonic()
    assert versions.is_registered(1, since)
    for version in (2, 3, 2, 3):
        assert versions.is_registered(version, since) is None
    assert time.monotonic() - since < 1
    released.set()
    deadline = time.monotonic() + 10
    while versions.is_registered(2, since) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert versions.is_registered(2, since)
    deadline = time.monotonic() + 10
    while (absent := versions.is_registered(3, since)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not absent
