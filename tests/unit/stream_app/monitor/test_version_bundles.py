"""Bundles of monitored versions, with a registry that hangs or has no such bundle."""

import threading
import time
from pathlib import Path

import pytest

from schemas.errors import ModelUnavailableError
from stream_app.monitor import version_bundles
from stream_app.monitor.version_bundles import VersionBundles


def test_a_hanging_download_delays_the_loop_once_and_is_used_later(
    champion_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_bundles, "MAX_WAIT_S", 0.05)
    released = threading.Event()

    def fetch(version: int) -> Path:
        assert released.wait(10)
        return champion_bundle

    bundles = VersionBundles(fetch)
    began = time.monotonic()
    assert all(bundles.is_pending(version) for version in (2, 2, 3, 2) * 20)
    assert time.monotonic() - began < 2
    assert bundles.get(2) is None
    released.set()
    deadline = time.monotonic() + 10
    while bundles.is_pending(2) or bundles.is_pending(3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [bundles.get(version) is not None for version in (2, 3, 4)] == [True, True, False]


def test_a_bundle_that_cannot_be_loaded_is_tried_again_after_a_while(
    champion_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []

    def fetch(version: int) -> Path:
        attempts.append(version)
        if len(attempts) == 1:
            raise ModelUnavailableError("version 2: no such run")
        return champion_bundle

    bundles = VersionBundles(fetch)
    assert not bundles.is_pending(2)
    assert not bundles.is_pending(2)
    assert (bundles.get(2), attempts) == (None, [2])
    assert "version 2 is not monitored: version 2: no such run" in caplog.text
    monkeypatch.setitem(bundles._retry_at_s, 2, 0.0)
    assert not bundles.is_pending(2)
    assert bundles.get(2) is not None
