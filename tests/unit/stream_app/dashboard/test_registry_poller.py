"""The registry poller runs until it is cancelled, at any step."""

import asyncio
from typing import Any

import pytest

from schemas.errors import ModelUnavailableError
from stream_app.dashboard.registry_poller import Registry, RegistryPoller, VersionsSeen


def away(*_: Any) -> Any:
    raise ModelUnavailableError("there is no registry here")


@pytest.mark.parametrize("steps", range(6))
def test_a_stop_in_the_instant_of_an_approval_is_not_lost(steps: int) -> None:
    async def stop() -> None:
        known = RegistryPoller(
            Registry(reference=away, pending_approvals=lambda: [], report=away, approve=away, reject=away), 60
        )
        task = asyncio.create_task(known.run(lambda: VersionsSeen(frozenset(), ())))
        while known.error is not None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        known.wake.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1.5)
        assert done

    asyncio.run(stop())
